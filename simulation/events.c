/* NVML's events, of which there is one kind here: a GPU reports an Xid.
 *
 * A set hears of it once each time when the `xid` of a registered GPU changes to a number.
 */
#include "devices.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_GPUS = 32, LOOK_EVERY_NANOSECONDS = 20000000 };

#define XID_CRITICAL_ERROR 8ULL

struct event_set {
    bool is_registered[MAX_GPUS]; /* by the number of the GPU in this process */
    long long heard[MAX_GPUS];
};

struct event_data {
    device_t device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

API int nvmlEventSetCreate(struct event_set **out)
{
    unsigned count;
    enum nvml answer = count_devices(&count);
    if (answer == SUCCESS)
        *out = calloc(1, sizeof **out);
    return answer;
}

API int nvmlEventSetFree(struct event_set *set)
{
    free(set);
    return SUCCESS;
}

API int nvmlDeviceGetSupportedEventTypes(device_t device, unsigned long long *out)
{
    struct state state;
    enum nvml answer = look(device, &state);
    if (answer == SUCCESS)
        *out = state.values[XID] == UNSUPPORTED ? 0 : XID_CRITICAL_ERROR;
    return answer;
}

API int nvmlDeviceRegisterEvents(device_t device, unsigned long long types, struct event_set *set)
{
    unsigned long long supported;
    enum nvml answer = (enum nvml)nvmlDeviceGetSupportedEventTypes(device, &supported);
    if (answer != SUCCESS)
        return answer;
    if (types == 0 || (types & ~supported) != 0)
        return NOT_SUPPORTED;
    pthread_mutex_lock(&lock);
    answer = look_up_xid(device, &set->heard[index_of(device)]);
    set->is_registered[index_of(device)] = answer == SUCCESS;
    pthread_mutex_unlock(&lock);
    return answer;
}

/* SUCCESS with an event, TIMEOUT when there is none now. */
static enum nvml hear(struct event_set *set, struct event_data *out)
{
    unsigned count;
    enum nvml answer = count_devices(&count);
    for (unsigned i = 0; answer == SUCCESS && i < count; i++) {
        long long xid;
        if (!set->is_registered[i] || look_up_xid(nth_device(i), &xid) != SUCCESS)
            continue;
        bool is_new = xid != set->heard[i] && xid > 0;
        set->heard[i] = xid;
        if (!is_new)
            continue;
        *out = (struct event_data){.device = nth_device(i),
                                   .type = XID_CRITICAL_ERROR,
                                   .data = (unsigned long long)xid,
                                   .gpu_instance = ~0U,
                                   .compute_instance = ~0U};
        return SUCCESS;
    }
    return answer == SUCCESS ? TIMEOUT : answer;
}

API int nvmlEventSetWait_v2(struct event_set *set, struct event_data *out, unsigned milliseconds)
{
    double until = clock_seconds() + milliseconds / 1000.0;
    for (;;) {
        pthread_mutex_lock(&lock);
        enum nvml answer = hear(set, out);
        pthread_mutex_unlock(&lock);
        if (answer != TIMEOUT || clock_seconds() >= until)
            return answer;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_EVERY_NANOSECONDS}, NULL);
    }
}
