/* A libnvidia-ml.so.1 that answers the NVML calls of nvitop from one state file per GPU and MIG instance.
 *
 * Here: the library itself and which GPUs there are; the rest is in mig.c, readings.c, links.c and events.c. A
 * missing answer is an NVML error, never a number.
 */
#include "devices.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DRIVER_VERSION "580.95.05"
#define CUDA_DRIVER_VERSION 13000

/* --- library and system ------------------------------------------------------------------- */

API int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    open_devices();
    return SUCCESS;
}

API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API int nvmlInit(void) { return nvmlInitWithFlags(0); }
API int nvmlShutdown(void) { return close_devices(); }

API const char *nvmlErrorString(int error)
{
    switch (error) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

API int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    return give_text(DRIVER_VERSION, out, size);
}

API int nvmlSystemGetNVMLVersion(char *out, unsigned size)
{
    return give_text("12." DRIVER_VERSION, out, size);
}

API int nvmlSystemGetCudaDriverVersion(int *out)
{
    *out = CUDA_DRIVER_VERSION;
    return SUCCESS;
}

API int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

/* --- which GPUs --------------------------------------------------------------------------- */

API int nvmlDeviceGetCount_v2(unsigned *count) { return count_devices(count); }
API int nvmlDeviceGetCount(unsigned *count) { return count_devices(count); }

static enum nvml give_handle(device_t device, device_t *out)
{
    struct state state;
    enum nvml answer = look(device, &state);
    if (answer == SUCCESS)
        *out = device;
    return answer;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *out)
{
    return give_handle(nth_device(index), out);
}

API int nvmlDeviceGetHandleByIndex(unsigned index, device_t *out)
{
    return give_handle(nth_device(index), out);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out)
{
    struct state state;
    unsigned count;
    enum nvml answer = count_devices(&count);
    device_t device = find_device(uuid);
    if (answer == SUCCESS)
        answer = device == NULL ? NOT_FOUND : look_at_any(device, &state);
    if (answer == SUCCESS)
        *out = device;
    return answer;
}

/* The slot follows the host's index, so that it is the same in every container. */
static void format_bus_id(const struct state *state, char *out, size_t size)
{
    snprintf(out, size, "00000000:%02X:00.0", (unsigned)(state->values[INDEX] + 1) & 0xff);
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, device_t *out)
{
    unsigned count;
    enum nvml answer = count_devices(&count);
    for (unsigned i = 0; answer == SUCCESS && i < count; i++) {
        struct state state;
        char own[32];
        if (look(nth_device(i), &state) != SUCCESS)
            continue;
        format_bus_id(&state, own, sizeof own);
        if (strcasecmp(own, bus_id) == 0)
            return give_handle(nth_device(i), out);
    }
    return answer == SUCCESS ? NOT_FOUND : answer;
}

API int nvmlDeviceGetIndex(device_t device, unsigned *out)
{
    return give_constant(device, index_of(device), out);
}

API int nvmlDeviceGetMinorNumber(device_t device, unsigned *out)
{
    return give_unsigned(device, INDEX, out);
}

API int nvmlDeviceGetUUID(device_t device, char *out, unsigned size)
{
    struct state state;
    enum nvml answer = look_at_any(device, &state);
    return answer == SUCCESS ? give_text(uuid_of(device), out, size) : answer;
}

struct pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

API int nvmlDeviceGetPciInfo_v3(device_t device, struct pci_info *out)
{
    struct state state;
    enum nvml answer = look(device, &state);
    if (answer != SUCCESS)
        return answer;
    memset(out, 0, sizeof *out);
    out->bus = (unsigned)(state.values[INDEX] + 1) & 0xff;
    out->pci_device_id = 0x20b210de; /* A100-SXM4-80GB */
    out->pci_subsystem_id = 0x147f10de;
    format_bus_id(&state, out->bus_id, sizeof out->bus_id);
    strcpy(out->bus_id_legacy, out->bus_id + 4);
    return SUCCESS;
}

/* --- everything else ---------------------------------------------------------------------- */

/* The first argument of most calls is a GPU, and a lost one says so before anything else. */
static enum nvml refuse(device_t first)
{
    struct state state;
    return look(first, &state) == GPU_IS_LOST ? GPU_IS_LOST : NOT_SUPPORTED;
}

#define UNSUPPORTED_CALL(function)                                                               \
    API int function(device_t first) { return refuse(first); }
#include "unsupported.h"
