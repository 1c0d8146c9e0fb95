// The fastpaths of kernels that do not trace have nothing to say: see trace.s.
.macro trace_call
.endm
.macro trace_reply
.endm
.macro trace_notify
.endm
.macro trace_notify_waiter
.endm
.macro trace_wait
.endm
.macro trace_wait_bits
.endm
.macro trace_yield
.endm
