/* The state file of one simulated GPU, or of one MIG instance of a GPU.
 *
 * Reading never fails half-way: a file is taken whole or not at all.
 */
#ifndef SIMULATED_GPU_STATE_H
#define SIMULATED_GPU_STATE_H

#include <stdbool.h>
#include <sys/stat.h>

enum { MAX_PROCESSES = 64, NAME_SIZE = 96, UUID_SIZE = 80, PROFILE_SIZE = 32 };

/* The value of a key that says `unsupported`. */
#define UNSUPPORTED (-1LL)

/* The keys with one number each, in the units of their names; see KEYS in state.c. */
enum field {
    MEMORY_TOTAL_BYTES,
    MEMORY_USED_BYTES,
    MEMORY_RESERVED_BYTES,
    BAR1_MEMORY_TOTAL_BYTES,
    BAR1_MEMORY_USED_BYTES,
    TEMPERATURE_CELSIUS,
    UTILIZATION_PERCENT,
    MEMORY_UTILIZATION_PERCENT,
    ENCODER_UTILIZATION_PERCENT,
    DECODER_UTILIZATION_PERCENT,
    POWER_MILLIWATTS,
    POWER_LIMIT_MILLIWATTS,
    GRAPHICS_CLOCK_MHZ,
    SM_CLOCK_MHZ,
    MEMORY_CLOCK_MHZ,
    VIDEO_CLOCK_MHZ,
    MAX_GRAPHICS_CLOCK_MHZ,
    MAX_SM_CLOCK_MHZ,
    MAX_MEMORY_CLOCK_MHZ,
    MAX_VIDEO_CLOCK_MHZ,
    FAN_SPEED_PERCENT,
    PCIE_TX_KIB_PER_SECOND,
    PCIE_RX_KIB_PER_SECOND,
    ECC_UNCORRECTED_ERRORS,
    INDEX,
    WAVE_SECONDS,
    COMPUTE_CAPABILITY, /* major * 100 + minor */
    MIG_MODE,           /* 0 disabled, 1 enabled */
    NUMA_NODE,
    NVLINK_GROUP, /* GPUs of one number are joined */
    XID,          /* the last one that the driver reported; 0 is none */
    FIELD_COUNT
};

struct process {
    unsigned pid;
    unsigned long long used_bytes;
};

struct state {
    char name[NAME_SIZE];
    char parent[UUID_SIZE]; /* of a MIG instance: the UUID of its GPU */
    char profile[PROFILE_SIZE];
    bool is_lost;
    long long values[FIELD_COUNT];
    unsigned process_count;
    struct process processes[MAX_PROCESSES];
};

/* Fills `state` from the file at `path` and `seen` from its stat. Returns false, with both untouched,
 * when the file is absent, half-written or malformed. */
bool read_state(const char *path, struct state *state, struct stat *seen);

/* Lets the live values swing around the given ones, as far as `wave_seconds` says, at the time `now`
 * (seconds since the epoch). */
void apply_wave(struct state *state, double now);

#endif
