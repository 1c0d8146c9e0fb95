/* The serial port, and the end of the machine. */
#include "console.h"

#define COM1 0x3f8
#define EXIT 0xf4

static seL4_CPtr serial_port, exit_port;

void console_open(seL4_CPtr serial, seL4_CPtr exit)
{
    serial_port = serial;
    exit_port = exit;
}

/* QEMU's serial port takes every byte at once: nobody has to wait for it. */
void say(const char *text)
{
    for (; *text; text++) {
        seL4_X86_IOPort_Out8(serial_port, COM1, (unsigned char)*text);
    }
}

void say_number(u64 number)
{
    char digits[24];
    int at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    say(digits + at);
}

void end_machine(unsigned status)
{
    seL4_X86_IOPort_Out32(exit_port, EXIT, status);
    for (;;) {
        seL4_Yield();
    }
}
