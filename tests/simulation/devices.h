/* The simulated GPUs of this process, and how a call of NVML asks one of them.
 *
 * Every function here may be called from any thread.
 */
#ifndef SIMULATED_GPU_DEVICES_H
#define SIMULATED_GPU_DEVICES_H

#include "state.h"

#define API __attribute__((visibility("default")))

/* NVML's answers, by its numbers. */
enum nvml {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
};

typedef struct device *device_t;

/* Pairs of these nest; the first look for the GPUs that there are. */
void open_devices(void);
enum nvml close_devices(void);

enum nvml count_devices(unsigned *count);

/* Some address, good or not: only `look` says whether there is such a GPU. */
device_t nth_device(unsigned index);
unsigned index_of(device_t device);
const char *uuid_of(device_t device);

/* The state of `device` at this moment, or why there is none. */
enum nvml look(device_t device, struct state *state);

/* One number of it; NOT_SUPPORTED when the file says so. */
enum nvml look_up(device_t device, enum field field, long long *value);
enum nvml give_unsigned(device_t device, enum field field, unsigned *out);

/* An answer that is the same for every GPU that is there. */
enum nvml give_constant(device_t device, unsigned constant, unsigned *out);

enum nvml give_text(const char *text, char *out, unsigned size);

double clock_seconds(void);

#endif
