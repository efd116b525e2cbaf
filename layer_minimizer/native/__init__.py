"""Compacts shared libraries to the pages that are used: tracing pages, writing the smaller file, restoring pages.

``elf_image`` reads a library, ``hotness`` selects the pages that must stay, ``compact`` writes the smaller library,
``coldstore`` compresses the cold pages, ``pagetrace`` records the pages that a run touches, ``parts`` locates the
compiled C parts: ``src/pagetrace.c`` traces a run, ``src/coldpages.c`` is shipped in the layer and restores pages when
they are first accessed.
"""
