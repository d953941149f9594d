/* Links: the place of a GPU in the host, its NUMA node and its NVLinks.
 *
 * A GPU whose state file does not say it has neither.
 */
#include "devices.h"

#include <string.h>

enum { WORD_BITS = 8 * sizeof(unsigned long) };
enum { OF_NVLINK = 2, JOINED = 0, NOT_JOINED = 5 }; /* nvmlGpuP2PCapsIndex_t, nvmlGpuP2PStatus_t */

API int nvmlDeviceGetMemoryAffinity(device_t device, unsigned words, unsigned long *out,
                                    unsigned scope)
{
    long long node;
    enum nvml answer = look_up(device, NUMA_NODE, &node);
    (void)scope;
    if (answer != SUCCESS)
        return answer;
    if ((unsigned long long)node >= (unsigned long long)words * WORD_BITS)
        return INSUFFICIENT_SIZE;
    memset(out, 0, words * sizeof *out);
    out[node / WORD_BITS] = 1UL << (node % WORD_BITS);
    return SUCCESS;
}

API int nvmlDeviceGetP2PStatus(device_t device, device_t other, unsigned caps, unsigned *out)
{
    struct state state, of_other;
    enum nvml answer = look(device, &state);
    if (answer == SUCCESS)
        answer = look(other, &of_other);
    if (answer != SUCCESS)
        return answer;
    long long group = state.values[NVLINK_GROUP];
    bool is_joined = group != UNSUPPORTED && group == of_other.values[NVLINK_GROUP];
    *out = caps == OF_NVLINK && is_joined ? JOINED : NOT_JOINED;
    return SUCCESS;
}
