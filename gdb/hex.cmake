# gdb/hex.cmake: the bytes of the file IN as numbers with commas, for a C initialiser, to OUT.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," hex "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" hex "${hex}")
file(WRITE ${OUT} "${hex}\n")
