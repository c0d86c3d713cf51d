"""Cues: the words by which an R1-like trace shows what a sentence is for."""

import re

_FLAGS = re.IGNORECASE
_OPENERS = r"(?:(?:wait|hmm+|okay|ok|so|but|oh|alright|well|yeah|yes|no|and|now|hold on|actually|right|i mean)\b[\s,.!—–-]*)*"
_ASIDE = r"[\s,.!?…]*"

CHECK = re.compile(
    r"\b(?:double[- ]?check|re-?check|check (?:that|this|it|again|my|everything|if)|verify|make sure|confirm|go (?:through|"
    r"over) "
    r"(?:it|that|this|everything)(?: all)? again|do it again|start over|once more|is that right|is that correct|am i right|"
    r"does that make sense|did i (?:make|miss|do)|another way to (?:check|verify|confirm)|to be sure|let me (?:test|see if)|"
    r"sanity)\b",
    _FLAGS,
)
CORRECTION = re.compile(
    r"\b(?:that'?s not right|that'?s wrong|is wrong|not correct|incorrect|that can'?t be|that doesn'?t (?:make sense|work|fit)|"
    r"(?:i|i've) made a mistake|my mistake|made an? error|wait,? no|no,? wait|hold on|actually,? no|scratch that|oops)\b",
    _FLAGS,
)
_FILLERS = (
    # what it is about to do
    r"let me (?:think|see|start|try|figure|break|go|do|compute|calculate|work|take|recall|write|clarify)(?: (?:about|of|how|"
    r"to|it|that|this|them|out|down|again|carefully|through|more|a bit|step|by|everything|the|problem|question|one|on|"
    r"further|first|"
    r"another|way|do|over|figure|break|understand|analogy|riddle|different|differently|think|from|start|beginning|solve|"
    r"approach|division|calculation|for|moment|second|all))*",
    r"let'?s (?:see|think|break|try|do|go|compute|calculate|start|work|figure)(?: (?:about|it|that|this|down|out|again|step|"
    r"by|through|"
    r"how|one|first))*",
    r"i'?ll (?:go|take it|do it|start|work)(?: (?:from left to right|slowly|step by step|through|one by one|carefully|it|"
    r"them))*",
    # checking
    r"let me (?:re-?|double[- ]?)?(?:check|verify|confirm)(?: (?:that|this|it|again|everything|once|more|by|going|through|"
    r"the|calculation|"
    r"my|work|from|start|to|be|sure|real|quick))*",
    r"let me (?:make|be) sure(?: (?:that|i|didn'?t|make|a|mistake|i'?m|understand|get|this|right|correctly|about|that'?s|"
    r"correct))*",
    r"(?:let me )?go(?:ing)? through (?:it|this|everything) again(?: from the (?:start|beginning))?",
    r"(?:maybe )?i should (?:think|check|verify|double[- ]?check|be)(?: (?:it|that|this|again|everything|once|more|careful|"
    r"carefully|"
    r"about))*",
    r"i think (?:i should|i can|i need to) (?:take it|think|break|be)[^.,;:=\d]*",
    r"(?:is|are|was) (?:that|this|it) (?:right|correct|true|it|all|possible)",
    r"(?:does|do) (?:that|this|it) make sense",
    r"am i (?:right|missing something|overcomplicating (?:this|it)|sure)",
    r"did i (?:miss|do) (?:something|that right)",
    # doubt
    r"i'?m (?:confident|pretty sure|sure|not sure|a bit confused|not entirely sure|confused|getting confused|"
    r"stuck)(?: (?:in|about|of|"
    r"with|that|this|it|here|now|how))*",
    r"something (?:feels|seems) off",
    r"(?:no, )?that'?s (?:not right|wrong|not correct)",
    r"how (?:do|can|should) (?:i|we) (?:do|compute|approach|solve|start|go about|figure)(?: (?:this|that|it|out|with))*",
    r"where (?:do|should) i (?:start|begin)",
    r"what (?:else|now|next)",
    r"i need to (?:be careful|think)(?: about (?:this|it|that))?",
    r"this is (?:tricky|confusing|interesting|a bit confusing|getting complicated)",
    r"(?:maybe )?i(?:'m| am|'ve been| might be| may be) (?:really |just |still )?(?:overcomplicating|misunderstanding|"
    r"overthinking|"
    r"missing something|mixing (?:up|things)|stuck|getting (?:stuck|tangled|lost|close)|going (?:around )?in circles)"
    r"(?: (?:this|it|things|here|up|the terms|again))*",
    r"(?:i need|let me try|i should try) (?:a|another|some other) (?:different )?(?:approach|way|angle)",
    r"i think i(?:'m getting (?:close|somewhere)| see it| get it|'ve got (?:it|that|this)| have (?:a good grasp|it))",
    r"(?:that|this) might be overcomplicating (?:it|this|things)|that part is straightforward",
    # contentment
    r"i (?:think|believe|guess|feel)(?: like)? (?:that'?s|that is|this is|it'?s)(?: all)?(?: probably)? (?:right|correct|it|"
    r"good|fine|okay|"
    r"the way to go|about it|a good approach)",
    r"(?:that|this|it)(?: all)? (?:seems|sounds|looks|makes|feels)(?: to)? (?:right|correct|fit|good|sense|tricky|"
    r"a bit tricky|reasonable|"
    r"plausible|straightforward|okay|logical|interesting|about right)",
    r"(?:that|this|it) (?:doesn'?t|does not) (?:look|seem|sound) too (?:hard|bad|difficult)"
    r"(?:, but i (?:should|need to|want to) be careful)?",
    r"(?:wait|hmm+|okay|ok|oh|alright|well|yeah|yes|no|hold on|right|good|great|perfect|got it|exactly|correct|maybe|"
    r"interesting)",
)
_TAIL = r"(?:,? (?:though|then|here|now|too|so|right|but i'?m not sure|i think|step by step|again)){0,2}"
FILLER = re.compile(rf"{_OPENERS}(?:{'|'.join(_FILLERS)}){_ASIDE}{_TAIL}{_ASIDE}\Z", _FLAGS)
AGREEMENT = re.compile(
    rf"{_OPENERS}(?:that'?s|that is|this is|it'?s|which is|it is|seems|looks|matches|the same|same)\b.*\b(?:right|correct|"
    rf"the same|again|"
    r"consistent|same (?:answer|result)|what i (?:got|had)|as before|matches)\b",
    _FLAGS,
)
ANNOUNCEMENT = re.compile(
    rf"{_OPENERS}(?:(?:first|next|then|now|second|third|finally|after that|lastly|and)\b[\s,]*)*"
    r"(?:i(?:'ll| will| need to| have to| should| can| must|)\s+(?:now )?(?:add|subtract|multiply|divide|compute|calculate|"
    r"count|take|do|"
    r"work out|go|start|combine|sum|find)|let me (?:add|subtract|multiply|divide|compute|calculate|start|do|count|find)|"
    r"let'?s (?:add|subtract|multiply|divide|compute|calculate|do|start|count|find)|(?:the|those) \d+ \w+)\b",
    _FLAGS,
)
OUTCOME = re.compile(
    rf"{_OPENERS}(?:(?:now|then|therefore|thus|altogether|that means)\b[\s,]*)*"
    r"(?:(?:that|this|it)(?:'s| is| gives| makes| equals| would be)|i (?:now )?(?:have|get|got)|we (?:now )?(?:have|get)\b|"
    r"the (?:running )?(?:total|sum|result|product|difference) is|so far\b|\$?-?[\d,.]+\s*\w*\s*\Z)",
    _FLAGS,
)
CONCLUSION = re.compile(
    r"\b(?:answer|therefore|thus|hence|in total|altogether|conclu\w+|final\w*|total (?:is|of))\b|\\boxed", _FLAGS
)
RESULT = re.compile(
    r"(?:so|okay|therefore|thus),? (?:so,? )?the (?:probability|value|number|product|sum|difference)\b[^.?]*\bis\b", _FLAGS
)
COUNTING = re.compile(
    r"(?:so,? )?there (?:is|are) \d+ (?:kinds?|numbers|terms|types)(?: of \w+)?(?: here)?(?:: [-\d, and]+)?\.\s*\Z", _FLAGS
)
DOUBT = re.compile(r"(?:but )?(?:wait|hmm+|hold on)\b", _FLAGS)
TENTATIVE = re.compile(r"\?|\b(?:so far|maybe|perhaps|might|could|if|suppose|guess|assum\w+|try|not)\b", _FLAGS)
READING = re.compile(
    r"\b(?:i (?:need|have|'ve got|want|am asked|'m asked|'m trying) to (?:find|figure|work|compute|count|determine|solve|"
    r"calculate|"
    r"design|complete|understand)|the (?:problem|question) (?:is|says|asks|states)|i(?:'ve| have)(?: got)? (?:this|"
    r"a) (?:\w+ )?(?:problem|"
    r"question|analogy)|we are given|i'm given|given that|trying to (?:figure|understand)|there (?:is|are) \d)\b",
    _FLAGS,
)
SETUP = re.compile(
    r"\b(?:let me|let's|i'll|i will|i need to|i should|i can|we can|we need to|first,|next,|then,? i|start (?:by|with)|"
    r"step by step|"
    r"approach|method|strategy|let (?:x|n|the))\b",
    _FLAGS,
)
CASES = re.compile(r"\b(?:if|suppose|case|assume|assuming|for example|what if|maybe|perhaps|could be|alternatively)\b", _FLAGS)
COMPARISON = re.compile(
    r"\b(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|compare\w*|same as|different from|similar|whereas|"
    r"like)\b",
    _FLAGS,
)
RECALL = re.compile(
    r"\b(?:each|every|formula|recall|remember|known|know that|defined|definition|means|is called|refers|by the|theorem|rule|"
    r"usually|"
    r"typically|always)\b",
    _FLAGS,
)


def is_filler(text: str) -> bool:
    """Whether a sentence only hesitates, doubts or talks to itself: no quantity, no claim."""
    return len(text.split()) <= 22 and all(
        FILLER.match(part.strip()) is not None for part in re.split(r"(?<=[.!?;])\s+", text.strip()) if part.strip()
    )
