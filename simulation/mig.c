/* MIG: which instances a divided GPU has, and the names of both.
 *
 * An instance is a state file with its GPU's UUID as `parent` and its `profile`; a container sees those that
 * are mounted into it.
 */
#include "devices.h"

#include <stdio.h>
#include <string.h>

enum { MAX_INSTANCES = 7, FIRST_INSTANCE_ID = 7 };

static const char SIMULATED[] = " (simulated)";

unsigned gpu_instance_id(const struct state *instance)
{
    return FIRST_INSTANCE_ID + (unsigned)instance->values[INDEX];
}

/* As NVML puts it: the GPU's name, then ` MIG <profile>`; that it is simulated stays the last word. */
static enum nvml give_instance_name(device_t instance, char *out, unsigned size)
{
    struct state gpu, own;
    char name[NAME_SIZE + PROFILE_SIZE + sizeof " MIG " + sizeof SIMULATED];
    enum nvml answer = look(parent_of(instance), &gpu);
    if (answer == SUCCESS)
        answer = look_at_any(instance, &own);
    if (answer != SUCCESS)
        return answer;
    char *suffix = strstr(gpu.name, SIMULATED);
    if (suffix != NULL)
        *suffix = '\0';
    snprintf(name, sizeof name, "%s MIG %s%s", gpu.name, own.profile, suffix ? SIMULATED : "");
    return give_text(name, out, size);
}

API int nvmlDeviceGetName(device_t device, char *out, unsigned size)
{
    struct state state;
    if (parent_of(device) != NULL)
        return give_instance_name(device, out, size);
    enum nvml answer = look(device, &state);
    return answer == SUCCESS ? give_text(state.name, out, size) : answer;
}

API int nvmlDeviceGetMigMode(device_t device, unsigned *current, unsigned *pending)
{
    enum nvml answer = give_unsigned(device, MIG_MODE, current);
    if (answer == SUCCESS)
        *pending = *current;
    return answer;
}

API int nvmlDeviceGetMaxMigDeviceCount(device_t device, unsigned *out)
{
    unsigned is_enabled;
    enum nvml answer = give_unsigned(device, MIG_MODE, &is_enabled);
    if (answer == SUCCESS)
        *out = is_enabled ? MAX_INSTANCES : 0;
    return answer;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(device_t device, unsigned index, device_t *out)
{
    struct state state;
    unsigned is_enabled;
    enum nvml answer = give_unsigned(device, MIG_MODE, &is_enabled);
    if (answer != SUCCESS)
        return answer;
    device_t instance = is_enabled ? nth_instance(device, index) : NULL;
    answer = instance == NULL ? NOT_FOUND : look_at_any(instance, &state);
    if (answer == SUCCESS)
        *out = instance;
    return answer;
}

API int nvmlDeviceIsMigDeviceHandle(device_t device, unsigned *out)
{
    struct state state;
    enum nvml answer = look_at_any(device, &state);
    if (answer == SUCCESS)
        *out = parent_of(device) != NULL;
    return answer;
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t device, device_t *out)
{
    struct state state;
    enum nvml answer = look_at_any(device, &state);
    if (answer == SUCCESS && parent_of(device) == NULL)
        return INVALID_ARGUMENT;
    if (answer == SUCCESS)
        *out = parent_of(device);
    return answer;
}

API int nvmlDeviceGetGpuInstanceId(device_t device, unsigned *out)
{
    struct state state;
    enum nvml answer = look_at_any(device, &state);
    if (answer == SUCCESS && parent_of(device) == NULL)
        return NOT_SUPPORTED;
    if (answer == SUCCESS)
        *out = gpu_instance_id(&state);
    return answer;
}

API int nvmlDeviceGetComputeInstanceId(device_t device, unsigned *out)
{
    unsigned gpu_instance;
    enum nvml answer = (enum nvml)nvmlDeviceGetGpuInstanceId(device, &gpu_instance);
    if (answer == SUCCESS)
        *out = 0;
    return answer;
}
