/* The readings of a GPU: memory, temperature, utilisation, power, clocks, processes.
 *
 * Structures have the layout of NVML's versioned ones; the versions are those that nvitop picks.
 */
#include "devices.h"

#include <string.h>
#include <time.h>

enum { NO_INSTANCE = -1 };

/* --- values ------------------------------------------------------------------------------- */

struct memory_v1 {
    unsigned long long total, free, used;
};

struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

API int nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *out)
{
    struct state state;
    enum nvml answer = look_at_any(device, &state);
    if (answer != SUCCESS)
        return answer;
    const long long *values = state.values;
    if (values[MEMORY_TOTAL_BYTES] < 0 || values[MEMORY_USED_BYTES] < 0)
        return NOT_SUPPORTED;
    long long reserved = values[MEMORY_RESERVED_BYTES] < 0 ? 0 : values[MEMORY_RESERVED_BYTES];
    long long available = values[MEMORY_TOTAL_BYTES] - values[MEMORY_USED_BYTES] - reserved;
    out->total = (unsigned long long)values[MEMORY_TOTAL_BYTES];
    out->used = (unsigned long long)values[MEMORY_USED_BYTES];
    out->reserved = (unsigned long long)reserved;
    out->free = (unsigned long long)(available < 0 ? 0 : available);
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(device_t device, struct memory_v1 *out)
{
    struct memory_v2 memory;
    int answer = nvmlDeviceGetMemoryInfo_v2(device, &memory);
    if (answer == SUCCESS)
        *out = (struct memory_v1){
            .total = memory.total, .free = memory.free, .used = memory.total - memory.free};
    return answer;
}

API int nvmlDeviceGetBAR1MemoryInfo(device_t device, struct memory_v1 *out)
{
    long long total, used;
    enum nvml answer = look_up(device, BAR1_MEMORY_TOTAL_BYTES, &total);
    if (answer == SUCCESS)
        answer = look_up(device, BAR1_MEMORY_USED_BYTES, &used);
    if (answer == SUCCESS)
        *out = (struct memory_v1){.total = (unsigned long long)total,
                                  .free = (unsigned long long)(total > used ? total - used : 0),
                                  .used = (unsigned long long)used};
    return answer;
}

API int nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *out)
{
    return sensor == 0 ? give_unsigned(device, TEMPERATURE_CELSIUS, out) : INVALID_ARGUMENT;
}

struct temperature_v1 {
    unsigned version, sensor;
    int celsius;
};

API int nvmlDeviceGetTemperatureV(device_t device, struct temperature_v1 *out)
{
    return nvmlDeviceGetTemperature(device, out->sensor, (unsigned *)&out->celsius);
}

struct utilization {
    unsigned gpu, memory;
};

/* Unknown for a GPU with MIG. */
API int nvmlDeviceGetUtilizationRates(device_t device, struct utilization *out)
{
    long long has_mig;
    enum nvml answer = give_unsigned(device, UTILIZATION_PERCENT, &out->gpu);
    if (answer != SUCCESS)
        return answer;
    if (look_up(device, MIG_MODE, &has_mig) == SUCCESS && has_mig)
        return NOT_SUPPORTED;
    return give_unsigned(device, MEMORY_UTILIZATION_PERCENT, &out->memory);
}

#define SAMPLED_UTILIZATION(function, field)                                                     \
    API int function(device_t device, unsigned *out, unsigned *period_microseconds)              \
    {                                                                                            \
        *period_microseconds = 167000;                                                           \
        return give_unsigned(device, field, out);                                                \
    }
SAMPLED_UTILIZATION(nvmlDeviceGetEncoderUtilization, ENCODER_UTILIZATION_PERCENT)
SAMPLED_UTILIZATION(nvmlDeviceGetDecoderUtilization, DECODER_UTILIZATION_PERCENT)

#define NUMBER(function, field)                                                                  \
    API int function(device_t device, unsigned *out) { return give_unsigned(device, field, out); }
NUMBER(nvmlDeviceGetPowerUsage, POWER_MILLIWATTS)
NUMBER(nvmlDeviceGetPowerManagementLimit, POWER_LIMIT_MILLIWATTS)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, POWER_LIMIT_MILLIWATTS)
NUMBER(nvmlDeviceGetFanSpeed, FAN_SPEED_PERCENT)

/* NVML's clock types 0 to 3 have the order of our fields. */
API int nvmlDeviceGetClockInfo(device_t device, unsigned type, unsigned *out)
{
    return type < 4 ? give_unsigned(device, GRAPHICS_CLOCK_MHZ + type, out) : INVALID_ARGUMENT;
}

API int nvmlDeviceGetMaxClockInfo(device_t device, unsigned type, unsigned *out)
{
    return type < 4 ? give_unsigned(device, MAX_GRAPHICS_CLOCK_MHZ + type, out) : INVALID_ARGUMENT;
}

/* NVML counts for 20 ms before it answers, so the simulation takes as long. */
API int nvmlDeviceGetPcieThroughput(device_t device, unsigned counter, unsigned *out)
{
    if (counter > 1)
        return INVALID_ARGUMENT;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    return give_unsigned(device, PCIE_TX_KIB_PER_SECOND + counter, out);
}

API int nvmlDeviceGetTotalEccErrors(device_t device, unsigned type, unsigned counter,
                                    unsigned long long *out)
{
    long long errors;
    enum nvml answer = look_up(device, ECC_UNCORRECTED_ERRORS, &errors);
    (void)counter;
    if (answer == SUCCESS)
        *out = type == 1 ? (unsigned long long)errors : 0; /* 1: uncorrected */
    return answer;
}

API int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor)
{
    long long value;
    enum nvml answer = look_up(device, COMPUTE_CAPABILITY, &value);
    if (answer == SUCCESS) {
        *major = (int)(value / 100);
        *minor = (int)(value % 100);
    }
    return answer;
}

#define CONSTANT(function, constant)                                                             \
    API int function(device_t device, unsigned *out)                                             \
    {                                                                                            \
        return give_constant(device, constant, out);                                             \
    }
CONSTANT(nvmlDeviceGetDisplayActive, 0)
CONSTANT(nvmlDeviceGetDisplayMode, 0)
CONSTANT(nvmlDeviceGetPersistenceMode, 1)
CONSTANT(nvmlDeviceGetPerformanceState, 0)
CONSTANT(nvmlDeviceGetComputeMode, 0)
CONSTANT(nvmlDeviceGetNumGpuCores, 6912)

/* --- processes ---------------------------------------------------------------------------- */

struct process_info {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

API int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned *count,
                                                struct process_info *out)
{
    struct state state;
    enum nvml answer = look_at_any(device, &state);
    bool is_instance = parent_of(device) != NULL;
    if (answer != SUCCESS)
        return answer;
    unsigned room = *count;
    *count = state.process_count;
    if (room < state.process_count)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < state.process_count; i++)
        out[i] = (struct process_info){
            .pid = state.processes[i].pid,
            .used_bytes = state.processes[i].used_bytes,
            .gpu_instance = is_instance ? gpu_instance_id(&state) : (unsigned)NO_INSTANCE,
            .compute_instance = is_instance ? 0 : (unsigned)NO_INSTANCE};
    return SUCCESS;
}

API int nvmlDeviceGetComputeRunningProcesses_v2(device_t device, unsigned *count,
                                                struct process_info *out)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, out);
}

#define NO_PROCESSES(function)                                                                   \
    API int function(device_t device, unsigned *count, struct process_info *out)                 \
    {                                                                                            \
        struct state state;                                                                      \
        (void)out;                                                                               \
        *count = 0;                                                                              \
        return look_at_any(device, &state);                                                      \
    }
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2)

struct process_sample {
    unsigned pid;
    unsigned long long microseconds;
    unsigned sm, memory, encoder, decoder;
};

/* The GPU's utilisation in equal shares; NVML says NOT_FOUND when no process used the GPU. */
API int nvmlDeviceGetProcessUtilization(device_t device, struct process_sample *out,
                                        unsigned *count, unsigned long long since)
{
    struct state state;
    enum nvml answer = look(device, &state);
    unsigned room = *count;
    (void)since;
    if (answer != SUCCESS)
        return answer;
    if (state.values[UTILIZATION_PERCENT] == UNSUPPORTED)
        return NOT_SUPPORTED;
    if (state.process_count == 0)
        return NOT_FOUND;
    *count = state.process_count;
    if (room < state.process_count)
        return INSUFFICIENT_SIZE;
    unsigned share = (unsigned)state.values[UTILIZATION_PERCENT] / state.process_count;
    unsigned long long now = (unsigned long long)(clock_seconds() * 1e6);
    for (unsigned i = 0; i < state.process_count; i++)
        out[i] = (struct process_sample){
            .pid = state.processes[i].pid, .microseconds = now, .sm = share};
    return SUCCESS;
}

/* --- fields: each one is answered, and none is supported ---------------------------------- */

struct field_value {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned value_type, answer;
    unsigned long long value;
};

API int nvmlDeviceGetFieldValues(device_t device, int count, struct field_value *out)
{
    struct state state;
    enum nvml answer = look(device, &state);
    for (int i = 0; answer == SUCCESS && i < count; i++)
        out[i].answer = NOT_SUPPORTED;
    return answer;
}
