/* The simulated GPUs and MIG instances of this process, and how a call of NVML asks one of them.
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
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
};

typedef struct device *device_t;

/* Pairs of calls nest; the first call reads which GPUs exist. */
void open_devices(void);
enum nvml close_devices(void);

enum nvml count_devices(unsigned *count);

/* Some address, good or not: only `look` says whether there is such a GPU. */
device_t nth_device(unsigned index);
unsigned index_of(device_t device);
const char *uuid_of(device_t device);

/* The GPU or MIG instance of that name, or NULL. */
device_t find_device(const char *uuid);

/* A GPU's MIG instances, counted in the order of their indices; NULL after the last. */
device_t nth_instance(device_t gpu, unsigned number);

/* Of a MIG instance its GPU; NULL for a GPU. */
device_t parent_of(device_t device);

/* The state of a GPU at this moment, or why there is none: NVML answers most questions for GPUs only. */
enum nvml look(device_t gpu, struct state *state);

/* The same for a GPU or a MIG instance; an instance that was removed is not found. */
enum nvml look_at_any(device_t device, struct state *state);

/* The last Xid of a GPU, even of a lost one. */
enum nvml look_up_xid(device_t gpu, long long *xid);

/* One number of it; NOT_SUPPORTED when the file says so. */
enum nvml look_up(device_t device, enum field field, long long *value);
enum nvml give_unsigned(device_t device, enum field field, unsigned *out);

/* An answer that is the same for every GPU that is there. */
enum nvml give_constant(device_t device, unsigned constant, unsigned *out);

enum nvml give_text(const char *text, char *out, unsigned size);

/* NVML's number of a MIG instance on its GPU; the first are those of the larger parts. */
unsigned gpu_instance_id(const struct state *instance);

double clock_seconds(void);

#endif
