"""Claims checked: that files are what locks name, that nothing vanished, that spans hold, that stages come out the same anew."""
