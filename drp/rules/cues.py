"""Cues: the words by which an R1-like trace shows what a sentence is for."""

import re

_FLAGS = re.IGNORECASE
_OPENERS = r"(?:(?:wait|hmm+|okay|ok|so|but|oh|alright|well|yeah|yes|no|and|now|hold on|actually|right|i mean)\b[\s,.!—–-]*)*"
_ASIDE = r"[\s,.!?…]*"

CHECK = re.compile(
    r"\b(?:double[- ]?check|re-?check|check (?:that|this|it|again|my|everything|if)|verify|make sure|confirm|go (?:through|over) "
    r"(?:it|that|this|everything)(?: all)? again|do it again|start over|once more|is that right|is that correct|am i right|"
    r"does that make sense|did i (?:make|miss|do)|another way to|to be sure|let me (?:test|see if)|does this|sanity)\b",
    _FLAGS,
)
CORRECTION = re.compile(
    r"\b(?:that'?s not right|that'?s wrong|is wrong|not correct|incorrect|that can'?t be|that doesn'?t (?:make sense|work|fit|add)|"
    r"(?:i|i've) made a mistake|my mistake|made an? error|wait,? no|no,? wait|hold on|actually,? no|scratch that|oops)\b",
    _FLAGS,
)
FILLER = re.compile(
    rf"{_OPENERS}(?:"
    r"let me (?:think|see|start|try|figure|break|go|do|compute|calculate|work|take|recall|write|clarify|rephrase)"
    r"(?: (?:about|of|how|to|it|that|this|them|out|down|again|carefully|through|more|a bit|step|by|everything|the|problem|"
    r"question|one|on|further|first|another|way|do|over|from|start|beginning|solve|approach|division|calculation|for|moment|"
    r"second|do that|all))*"
    r"|let me (?:re-?|double[- ]?)?check(?: (?:that|this|it|again|everything|once|more|by|going|through|the|calculation|my|"
    r"work|from|start|to|be|sure))*"
    r"|let'?s (?:see|think|break|try|do|go|compute|calculate|start|work|figure)(?: (?:about|it|that|this|down|out|again|step|by|"
    r"through|how|one|first))*"
    r"|let me (?:make|be) sure(?: (?:that|i|didn'?t|make|a|mistake|i'?m|understand|get|this|right|correctly|about))*"
    r"|(?:let me )?(?:go|going) through (?:it|this|everything) again(?: from the (?:start|beginning))?"
    r"|(?:maybe )?i should (?:think|check|verify|double[- ]?check|be)(?: (?:it|that|this|again|everything|once|more|careful|carefully))*"
    r"|i think (?:i should|i can|i need to) (?:take it|think|break|be)[^.,;:=\d]*"
    r"|i (?:think|believe|guess|feel)(?: like)? (?:that'?s|that is|this is|it'?s)(?: all)?(?: probably)? (?:right|correct|it|good|fine|"
    r"okay|the way to go|about it|a good approach)"
    r"|i'?m (?:confident|pretty sure|sure|not sure|a bit confused|not entirely sure|confused|getting confused|stuck)"
    r"(?: (?:in|about|of|with|that|this|it|here|now|how))*"
    r"|(?:that|this|it)(?: all)? (?:seems|sounds|looks|makes|feels)(?: to)? (?:right|correct|fit|good|sense|tricky|a bit tricky|"
    r"reasonable|plausible|straightforward|okay|logical|interesting|about right)"
    r"|(?:that|this|it) (?:doesn'?t|does not) (?:look|seem|sound) too (?:hard|bad|difficult)(?:, but i (?:should|need to|want to) be careful)?"
    r"|(?:is|are|was) (?:that|this|it) (?:right|correct|true|it|all|possible)"
    r"|(?:does|do) (?:that|this|it) make sense|am i (?:right|missing something|overcomplicating (?:this|it)|sure)"
    r"|something (?:feels|seems) off|(?:no, )?that'?s (?:not right|wrong|not correct)|did i (?:miss|do) (?:something|that right)"
    r"|how (?:do|can|should) (?:i|we) (?:do|compute|approach|solve|start|go about|figure)(?: (?:this|that|it|out|with))*"
    r"|where (?:do|should) i (?:start|begin)|what (?:else|now|next)|i need to (?:be careful|think)(?: about (?:this|it|that))?"
    r"|i'?ll (?:go|take it|do it|start|work)(?: (?:from left to right|slowly|step by step|through|one by one|carefully|it|them))*"
    r"|this is (?:tricky|confusing|interesting|a bit confusing|getting complicated)"
    r"|(?:wait|hmm+|okay|ok|oh|alright|well|yeah|yes|no|hold on|right|good|great|perfect|got it|exactly|correct|maybe|interesting)"
    rf"){_ASIDE}(?:,? (?:though|then|here|now|too|so|right|but i'?m not sure|i think|step by step|again)){{0,2}}{_ASIDE}\Z",
    _FLAGS,
)
AGREEMENT = re.compile(
    rf"{_OPENERS}(?:that'?s|that is|this is|it'?s|which is|it is|seems|looks|matches|the same|same)\b.*\b(?:right|correct|the same|again|"
    r"consistent|same (?:answer|result)|what i (?:got|had)|as before|matches)\b",
    _FLAGS,
)
ANNOUNCEMENT = re.compile(
    rf"{_OPENERS}(?:(?:first|next|then|now|second|third|finally|after that|lastly|and)\b[\s,]*)*"
    r"(?:i(?:'ll| will| need to| have to| should| can| must|)\s+(?:now )?(?:add|subtract|multiply|divide|compute|calculate|count|take|do|"
    r"work out|go|start|combine|sum|find)|let me (?:add|subtract|multiply|divide|compute|calculate|start|do|count|find)|"
    r"let'?s (?:add|subtract|multiply|divide|compute|calculate|do|start|count|find)|(?:the|those) \d+ \w+)\b",
    _FLAGS,
)
OUTCOME = re.compile(
    rf"{_OPENERS}(?:(?:now|then|therefore|thus|altogether|that means)\b[\s,]*)*"
    r"(?:(?:that|this|it)(?:'s| is| gives| makes| equals| would be)|i (?:now )?(?:have|get|got)|we (?:now )?(?:have|get)|"
    r"the (?:running )?(?:total|sum|result|product|difference) is|so far|\$?-?[\d,.]+)\b",
    _FLAGS,
)
CONCLUSION = re.compile(r"\b(?:answer|therefore|thus|hence|in total|altogether|conclu\w+|final\w*|total (?:is|of))\b|\\boxed", _FLAGS)
TENTATIVE = re.compile(r"\?|\b(?:so far|maybe|perhaps|might|could|if|suppose|guess|assum\w+|try|not)\b", _FLAGS)
READING = re.compile(
    r"\b(?:i (?:need|have|'ve got|want|am asked|'m asked|'m trying) to (?:find|figure|work|compute|count|determine|solve|calculate|"
    r"design|complete|understand)|the (?:problem|question) (?:is|says|asks|states)|i(?:'ve| have)(?: got)? (?:this|a) (?:\w+ )?(?:problem|"
    r"question|analogy)|we are given|i'm given|given that|trying to (?:figure|understand)|there (?:is|are) \d)\b",
    _FLAGS,
)
SETUP = re.compile(
    r"\b(?:let me|let's|i'll|i will|i need to|i should|i can|we can|we need to|first,|next,|then,? i|start (?:by|with)|step by step|"
    r"approach|method|strategy|let (?:x|n|the))\b",
    _FLAGS,
)
CASES = re.compile(r"\b(?:if|suppose|case|assume|assuming|for example|what if|maybe|perhaps|could be|alternatively)\b", _FLAGS)
COMPARISON = re.compile(
    r"\b(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|compare\w*|same as|different from|similar|whereas|like)\b", _FLAGS
)
RECALL = re.compile(
    r"\b(?:each|every|formula|recall|remember|known|know that|defined|definition|means|is called|refers|by the|theorem|rule|usually|"
    r"typically|always)\b",
    _FLAGS,
)


def is_filler(text: str) -> bool:
    """Whether a sentence only hesitates, doubts or talks to itself: no quantity, no claim."""
    return len(text.split()) <= 22 and all(
        FILLER.match(part.strip()) is not None for part in re.split(r"(?<=[.!?;])\s+", text.strip()) if part.strip()
    )
