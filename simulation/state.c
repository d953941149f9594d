/* Reads the `key=value` lines of a state file into a struct state.
 *
 * One wrong line rejects the whole file, and so does a missing last newline: a file caught
 * half-written must never look like a GPU with other values.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FILE_SIZE = 64 * 1024 };

static const struct {
    const char *key;
    long long value; /* when the key is absent */
} KEYS[FIELD_COUNT] = {
    [MEMORY_TOTAL_BYTES] = {"memory_total_bytes", 80LL << 30},
    [MEMORY_USED_BYTES] = {"memory_used_bytes", 0},
    [MEMORY_RESERVED_BYTES] = {"memory_reserved_bytes", 0},
    [BAR1_MEMORY_TOTAL_BYTES] = {"bar1_memory_total_bytes", 128LL << 30},
    [BAR1_MEMORY_USED_BYTES] = {"bar1_memory_used_bytes", 0},
    [TEMPERATURE_CELSIUS] = {"temperature_celsius", 30},
    [UTILIZATION_PERCENT] = {"utilization_percent", 0},
    [MEMORY_UTILIZATION_PERCENT] = {"memory_utilization_percent", 0},
    [ENCODER_UTILIZATION_PERCENT] = {"encoder_utilization_percent", 0},
    [DECODER_UTILIZATION_PERCENT] = {"decoder_utilization_percent", 0},
    [POWER_MILLIWATTS] = {"power_milliwatts", 60000},
    [POWER_LIMIT_MILLIWATTS] = {"power_limit_milliwatts", 400000},
    [GRAPHICS_CLOCK_MHZ] = {"graphics_clock_mhz", 210},
    [SM_CLOCK_MHZ] = {"sm_clock_mhz", 210},
    [MEMORY_CLOCK_MHZ] = {"memory_clock_mhz", 1593},
    [VIDEO_CLOCK_MHZ] = {"video_clock_mhz", 585},
    [MAX_GRAPHICS_CLOCK_MHZ] = {"max_graphics_clock_mhz", 1410},
    [MAX_SM_CLOCK_MHZ] = {"max_sm_clock_mhz", 1410},
    [MAX_MEMORY_CLOCK_MHZ] = {"max_memory_clock_mhz", 1593},
    [MAX_VIDEO_CLOCK_MHZ] = {"max_video_clock_mhz", 1290},
    [FAN_SPEED_PERCENT] = {"fan_speed_percent", UNSUPPORTED},
    [PCIE_TX_KIB_PER_SECOND] = {"pcie_tx_kib_per_second", 0},
    [PCIE_RX_KIB_PER_SECOND] = {"pcie_rx_kib_per_second", 0},
    [ECC_UNCORRECTED_ERRORS] = {"ecc_uncorrected_errors", 0},
    [INDEX] = {"index", INT_MAX},
    [WAVE_SECONDS] = {"wave_seconds", 0},
    [COMPUTE_CAPABILITY] = {"compute_capability", 800},
    [MIG_MODE] = {"mig_mode", 0},
    [NUMA_NODE] = {"numa_node", UNSUPPORTED},
    [NVLINK_GROUP] = {"nvlink_group", UNSUPPORTED},
    [XID] = {"xid", 0},
};

static void set_defaults(struct state *state)
{
    memset(state, 0, sizeof *state);
    strcpy(state->name, "NVIDIA A100-SXM4-80GB (simulated)");
    for (int field = 0; field < FIELD_COUNT; field++)
        state->values[field] = KEYS[field].value;
}

/* A whole number without sign or blanks that fits a long long. */
static bool parse_number(const char *text, long long *number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return *end == '\0' && errno == 0;
}

static bool parse_compute_capability(const char *text, long long *number)
{
    unsigned major, minor;
    int length = 0;
    if (sscanf(text, "%2u.%2u%n", &major, &minor, &length) != 2 || text[length] != '\0')
        return false;
    *number = major * 100LL + minor;
    return true;
}

static bool parse_field(enum field field, const char *text, long long *number)
{
    if (strcmp(text, "unsupported") == 0 && field != INDEX && field != WAVE_SECONDS) {
        *number = UNSUPPORTED;
        return true;
    }
    if (field == COMPUTE_CAPABILITY)
        return parse_compute_capability(text, number);
    if (field == MIG_MODE) {
        *number = strcmp(text, "enabled") == 0;
        return *number == 1 || strcmp(text, "disabled") == 0;
    }
    return parse_number(text, number);
}

/* `<pid>:<bytes>` */
static bool parse_process(char *text, struct state *state)
{
    long long pid, used_bytes;
    char *colon = strchr(text, ':');
    if (colon == NULL || state->process_count == MAX_PROCESSES)
        return false;
    *colon = '\0';
    if (!parse_number(text, &pid) || !parse_number(colon + 1, &used_bytes) || pid > INT_MAX)
        return false;
    state->processes[state->process_count++] =
        (struct process){.pid = (unsigned)pid, .used_bytes = (unsigned long long)used_bytes};
    return true;
}

static bool parse_text(const char *value, char *out, size_t size)
{
    if (*value == '\0' || strlen(value) >= size)
        return false;
    strcpy(out, value);
    return true;
}

static bool parse_line(char *line, struct state *state)
{
    char *value = strchr(line, '=');
    if (*line == '\0' || *line == '#')
        return true;
    if (value == NULL)
        return false;
    *value++ = '\0';
    if (strcmp(line, "name") == 0)
        return parse_text(value, state->name, NAME_SIZE);
    if (strcmp(line, "parent") == 0)
        return parse_text(value, state->parent, UUID_SIZE);
    if (strcmp(line, "profile") == 0)
        return parse_text(value, state->profile, PROFILE_SIZE);
    if (strcmp(line, "health") == 0) {
        state->is_lost = strcmp(value, "lost") == 0;
        return state->is_lost || strcmp(value, "ok") == 0;
    }
    if (strcmp(line, "process") == 0)
        return parse_process(value, state);
    for (int field = 0; field < FIELD_COUNT; field++)
        if (strcmp(line, KEYS[field].key) == 0)
            return parse_field((enum field)field, value, &state->values[field]);
    return false;
}

/* `index` is the one key a file must have: an emptied file is a half-written one. */
static bool parse(char *text, size_t size, struct state *state)
{
    set_defaults(state);
    if (size == 0 || text[size - 1] != '\n' || memchr(text, '\0', size) != NULL)
        return false;
    text[size] = '\0';
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (!parse_line(line, state))
            return false;
    }
    return state->values[INDEX] < INT_MAX;
}

bool read_state(const char *path, struct state *state, struct stat *seen)
{
    static char text[MAX_FILE_SIZE + 1]; /* the caller holds the lock */
    struct state fresh;
    struct stat status;
    size_t size = 0;
    ssize_t got = -1;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return false;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode))
        while (size < MAX_FILE_SIZE && (got = read(file, text + size, MAX_FILE_SIZE - size)) > 0)
            size += (size_t)got;
    close(file);
    if (got != 0 || !parse(text, size, &fresh))
        return false;
    *state = fresh;
    *seen = status;
    return true;
}

static void swing(struct state *state, enum field field, double by, enum field ceiling_field,
                  long long ceiling)
{
    long long *value = &state->values[field];
    if (*value == UNSUPPORTED)
        return;
    if (ceiling_field != FIELD_COUNT && state->values[ceiling_field] != UNSUPPORTED)
        ceiling = state->values[ceiling_field];
    *value = llround((double)*value + by);
    if (*value < 0)
        *value = 0;
    if (*value > ceiling)
        *value = ceiling;
}

void apply_wave(struct state *state, double now)
{
    long long period = state->values[WAVE_SECONDS];
    if (period == 0)
        return;
    double wave = sin(2 * M_PI * (now / (double)period + 0.29 * (double)state->values[INDEX]));
    swing(state, UTILIZATION_PERCENT, 20 * wave, FIELD_COUNT, 100);
    swing(state, TEMPERATURE_CELSIUS, 4 * wave, FIELD_COUNT, 110);
    swing(state, POWER_MILLIWATTS, 0.15 * wave * (double)state->values[POWER_MILLIWATTS],
          POWER_LIMIT_MILLIWATTS, LLONG_MAX);
    swing(state, MEMORY_USED_BYTES, 0.1 * wave * (double)state->values[MEMORY_USED_BYTES],
          MEMORY_TOTAL_BYTES, LLONG_MAX);
}
