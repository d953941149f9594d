/* Finds the simulated GPUs and keeps what their state files say.
 *
 * A GPU exists when <SIMULATED_GPUS_DIR or /run/simulated-gpus>/<uuid>/state does at the first init; its
 * file is read again whenever it changed.
 */
#include "devices.h"

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_DEVICES = 32, UUID_SIZE = 80 };

struct device {
    char uuid[UUID_SIZE];
    char path[PATH_MAX];
    bool has_state;  /* a good one was read at least once */
    bool is_settled; /* `seen` is old enough that an equal stat means an equal file */
    struct stat seen;
    struct state state;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct device devices[MAX_DEVICES];
static unsigned device_count;
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

static void find_devices(void)
{
    const char *root = getenv("SIMULATED_GPUS_DIR");
    struct dirent *entry;
    struct stat status;
    if (root == NULL || *root == '\0')
        root = "/run/simulated-gpus";
    DIR *directory = opendir(root);
    device_count = 0;
    if (directory == NULL)
        return;
    while ((entry = readdir(directory)) != NULL && device_count < MAX_DEVICES) {
        device_t device = &devices[device_count];
        if (strncmp(entry->d_name, "GPU-", 4) != 0 || strlen(entry->d_name) >= UUID_SIZE)
            continue;
        memset(device, 0, sizeof *device);
        strcpy(device->uuid, entry->d_name);
        snprintf(device->path, sizeof device->path, "%s/%s/state", root, entry->d_name);
        if (stat(device->path, &status) != 0)
            continue;
        device->state.values[INDEX] = INT_MAX;
        refresh(device);
        device_count++;
    }
    closedir(directory);
    qsort(devices, device_count, sizeof *devices, compare_devices);
}

static bool is_device(const void *handle)
{
    for (unsigned i = 0; i < device_count; i++)
        if (handle == &devices[i])
            return true;
    return false;
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

enum nvml look(device_t device, struct state *state)
{
    enum nvml answer = SUCCESS;
    pthread_mutex_lock(&lock);
    if (users == 0)
        answer = UNINITIALIZED;
    else if (!is_device(device))
        answer = INVALID_ARGUMENT;
    else {
        refresh(device);
        if (!device->has_state || device->state.is_lost)
            answer = GPU_IS_LOST;
        else
            *state = device->state;
    }
    pthread_mutex_unlock(&lock);
    if (answer == SUCCESS)
        apply_wave(state, clock_seconds());
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
