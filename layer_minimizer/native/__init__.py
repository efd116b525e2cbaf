"""Shared libraries shipped as the pages that are used: which pages a run touches, the compacted file, the way back.

``elf_image`` reads a library, ``hotness`` says which pages must stay, ``compact`` writes the smaller library,
``coldstore`` what was left out, ``pagetrace`` finds out which pages a run touches, ``parts`` finds the compiled C
parts: ``src/pagetrace.c`` watches a run, ``src/coldpages.c`` ships in the layer and puts pages back on first touch.
"""
