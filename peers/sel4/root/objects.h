/* Kernel objects: memory, slots, spaces, threads. Only the root task uses these. */
#pragma once

#include "root.h"

/* Ends the machine with a message when a step of the set-up fails. */
void expect(seL4_Error error, const char *step);

/* Reads the boot information and makes the three spaces. */
void objects_init(seL4_BootInfo *info);
/* The endpoint at which the root task hears of finished clients and of faults. */
seL4_CPtr control_endpoint(void);
seL4_CPtr port_range(word first, word last);

/* Objects of one row. Ending the row destroys them all. */
void begin_row(const struct row *row);
void end_row(void);
/* Makes a thread, which does not run yet. */
void make_thread(unsigned number, const struct part *part);
void start_thread(unsigned number);
/* Lets all threads run that the root task has started, until they wait. */
void settle(int elsewhere);
/* MCS: takes the thread's CPU time away. */
void make_passive(unsigned number);
