// The fastpaths of kernels that do not trace have nothing to say: see trace.s.
.macro trace what
.endm
