/* Finds the simulated GPUs and MIG instances and keeps what their state files say.
 *
 * One exists when <SIMULATED_GPUS_DIR or /run/simulated-gpus>/<uuid>/state does at the first init, an instance if
 * its GPU does too; a file is read again whenever it changed.
 */
#include "devices.h"

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_DEVICES = 32, MAX_INSTANCES = 7 * MAX_DEVICES };

struct device {
    char uuid[UUID_SIZE];
    char path[PATH_MAX];
    bool has_state;  /* a good one was read at least once */
    bool is_settled; /* `seen` is old enough that an equal stat means an equal file */
    struct stat seen;
    struct state state;
    device_t parent; /* NULL for a GPU */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct device devices[MAX_DEVICES];
static unsigned device_count;
static struct device instances[MAX_INSTANCES];
static unsigned instance_count;
static unsigned users; /* nvmlInit minus nvmlShutdown */

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Reads the file when it changed. A bad file leaves the last good state; no file is a lost GPU. */
static void refresh(device_t device)
{
    struct stat status;
    if (stat(device->path, &status) != 0) {
        device->state.is_lost = true;
        device->is_settled = false;
        return;
    }
    if (device->is_settled && is_same_file(&status, &device->seen))
        return;
    if (read_state(device->path, &device->state, &device->seen))
        device->has_state = true;
    else
        device->seen = status;
    /* Two writes within one tick of the file system's clock have one mtime. */
    device->is_settled =
        clock_seconds() - (double)device->seen.st_mtim.tv_sec -
            (double)device->seen.st_mtim.tv_nsec / 1e9 > 0.1;
}

static int compare_devices(const void *a, const void *b)
{
    const struct device *left = a, *right = b;
    long long left_index = left->state.values[INDEX], right_index = right->state.values[INDEX];
    if (left_index != right_index)
        return left_index < right_index ? -1 : 1;
    return strcmp(left->uuid, right->uuid);
}

/* Takes the folder `uuid` as a device; false when there is no state file in it. */
static bool open_device(device_t device, const char *root, const char *uuid)
{
    struct stat status;
    if (strlen(uuid) >= UUID_SIZE)
        return false;
    memset(device, 0, sizeof *device);
    strcpy(device->uuid, uuid);
    snprintf(device->path, sizeof device->path, "%s/%s/state", root, uuid);
    if (stat(device->path, &status) != 0)
        return false;
    device->state.values[INDEX] = INT_MAX;
    refresh(device);
    return true;
}

static device_t find_gpu(const char *uuid)
{
    for (unsigned i = 0; i < device_count; i++)
        if (strcmp(devices[i].uuid, uuid) == 0)
            return &devices[i];
    return NULL;
}

static void find_devices(void)
{
    const char *root = getenv("SIMULATED_GPUS_DIR");
    struct dirent *entry;
    if (root == NULL || *root == '\0')
        root = "/run/simulated-gpus";
    DIR *directory = opendir(root);
    device_count = instance_count = 0;
    if (directory == NULL)
        return;
    while ((entry = readdir(directory)) != NULL) {
        if (strncmp(entry->d_name, "GPU-", 4) == 0 && device_count < MAX_DEVICES)
            device_count += open_device(&devices[device_count], root, entry->d_name);
        if (strncmp(entry->d_name, "MIG-", 4) == 0 && instance_count < MAX_INSTANCES)
            instance_count += open_device(&instances[instance_count], root, entry->d_name);
    }
    closedir(directory);
    qsort(devices, device_count, sizeof *devices, compare_devices);
    qsort(instances, instance_count, sizeof *instances, compare_devices);
    for (unsigned i = 0; i < instance_count; i++)
        instances[i].parent = find_gpu(instances[i].state.parent);
}

static bool is_among(const struct device *all, unsigned count, const void *handle)
{
    for (unsigned i = 0; i < count; i++)
        if (handle == &all[i])
            return true;
    return false;
}

static bool is_instance(device_t device)
{
    return is_among(instances, instance_count, device) && device->parent != NULL;
}

void open_devices(void)
{
    pthread_mutex_lock(&lock);
    if (users++ == 0)
        find_devices();
    pthread_mutex_unlock(&lock);
}

enum nvml close_devices(void)
{
    enum nvml answer = UNINITIALIZED;
    pthread_mutex_lock(&lock);
    if (users > 0) {
        users--;
        answer = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

enum nvml count_devices(unsigned *count)
{
    pthread_mutex_lock(&lock);
    enum nvml answer = users > 0 ? SUCCESS : UNINITIALIZED;
    *count = device_count;
    pthread_mutex_unlock(&lock);
    return answer;
}

device_t nth_device(unsigned index) { return index < MAX_DEVICES ? &devices[index] : NULL; }
unsigned index_of(device_t device) { return (unsigned)(device - devices); }
const char *uuid_of(device_t device) { return device->uuid; }
device_t parent_of(device_t device) { return is_instance(device) ? device->parent : NULL; }

device_t find_device(const char *uuid)
{
    for (unsigned i = 0; i < instance_count; i++)
        if (strcmp(instances[i].uuid, uuid) == 0)
            return &instances[i];
    return find_gpu(uuid);
}

device_t nth_instance(device_t gpu, unsigned number)
{
    for (unsigned i = 0; i < instance_count; i++)
        if (instances[i].parent == gpu && number-- == 0)
            return &instances[i];
    return NULL;
}

/* With the lock held. */
static enum nvml look_at_gpu(device_t gpu, struct state *state)
{
    refresh(gpu);
    if (!gpu->has_state || gpu->state.is_lost)
        return GPU_IS_LOST;
    *state = gpu->state;
    return SUCCESS;
}

/* With the lock held. */
static enum nvml look_at_instance(device_t instance, struct state *state)
{
    enum nvml answer = look_at_gpu(instance->parent, state);
    if (answer == SUCCESS)
        answer = look_at_gpu(instance, state) == SUCCESS ? SUCCESS : NOT_FOUND;
    return answer;
}

enum nvml look_at_any(device_t device, struct state *state)
{
    enum nvml answer = INVALID_ARGUMENT;
    pthread_mutex_lock(&lock);
    if (users == 0)
        answer = UNINITIALIZED;
    else if (is_among(devices, device_count, device))
        answer = look_at_gpu(device, state);
    else if (is_instance(device))
        answer = look_at_instance(device, state);
    pthread_mutex_unlock(&lock);
    if (answer == SUCCESS)
        apply_wave(state, clock_seconds());
    return answer;
}

enum nvml look(device_t gpu, struct state *state)
{
    enum nvml answer = look_at_any(gpu, state);
    return answer == SUCCESS && parent_of(gpu) != NULL ? NOT_SUPPORTED : answer;
}

enum nvml look_up_xid(device_t gpu, long long *xid)
{
    enum nvml answer = INVALID_ARGUMENT;
    pthread_mutex_lock(&lock);
    if (users == 0)
        answer = UNINITIALIZED;
    else if (is_among(devices, device_count, gpu)) {
        refresh(gpu);
        *xid = gpu->state.values[XID];
        answer = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

enum nvml look_up(device_t device, enum field field, long long *value)
{
    struct state state;
    enum nvml answer = look(device, &state);
    if (answer != SUCCESS)
        return answer;
    *value = state.values[field];
    return *value == UNSUPPORTED ? NOT_SUPPORTED : SUCCESS;
}

enum nvml give_unsigned(device_t device, enum field field, unsigned *out)
{
    long long value;
    enum nvml answer = look_up(device, field, &value);
    if (answer == SUCCESS)
        *out = (unsigned)value;
    return answer;
}

enum nvml give_text(const char *text, char *out, unsigned size)
{
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

enum nvml give_constant(device_t device, unsigned constant, unsigned *out)
{
    struct state state;
    enum nvml answer = look(device, &state);
    if (answer == SUCCESS)
        *out = constant;
    return answer;
}
