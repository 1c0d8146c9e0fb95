/* The serial port, and the end of the machine. */
#pragma once

#include "root.h"

void console_open(seL4_CPtr serial, seL4_CPtr exit);
void say(const char *text);
void say_number(u64 number);
/* Ends QEMU by its isa-debug-exit device. */
_Noreturn void end_machine(unsigned status);
