/* A libnvidia-ml.so.1 of cards that are made up, for driving the real pynvml without a card.

   What it answers stands in a file of 8-byte numbers that NVML_STUB names: its own words first, then 64 for each of 16
   cards, then a ring of events. Who writes there (benchmarks/telemetry/stub.py) changes what the "driver" says while it
   is in use. Structures and numbers are those of nvml.h. With -DOLD_LIBRARY it lacks what a library of 2019 lacked. */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15, RESET = 16 };
enum { COUNT, INIT_RETURN, CALLS, HEAD, TAIL, INITS, OWN_WORDS = 64, WORDS = 64, CARDS = 16, EVENTS = 64 };
enum { GONE, HANG_MS, ENERGY, POWER, UTILISATION, TEMPERATURE, CLOCK, MEMORY_CLOCK, REASONS, TOTAL, USED, RESERVED, MIG,
       INSTANCES, PROCESSES, GPM, SM, TENSOR, DRAM, RECOVERY, REMAP_PENDING, REMAP_FAILED, ECC_UNCORRECTED, LINK_KIB,
       LINKS, VALUE_TYPE, HANGING, KERNEL, NO_FIELDS = 32 /* to 47 */ };

typedef struct { int card, instance; } Device;                                 /* instance -1: the card itself */
typedef union { double d; uint32_t ui; uint64_t ull; int64_t sll; } Value;
typedef struct { uint32_t id, scope; int64_t at, latency; uint32_t type, result; Value value; } Field;
typedef struct { Device *device; uint64_t type, data; uint32_t gpu_instance, compute_instance; } Event;
typedef struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { uint64_t total, free, used; } Memory;
typedef struct { uint32_t version; uint64_t total, reserved, free, used; } Memory2;
typedef struct { uint32_t pid; uint64_t used; uint32_t gpu_instance, compute_instance; } Process;
typedef struct { uint32_t id, result; double value; const char *names[3]; } Metric;
typedef struct { uint32_t version, count; void *one, *two; Metric metrics[]; } Metrics;

static int64_t own[OWN_WORDS + CARDS * WORDS + EVENTS * 3];
static int64_t *words = own;
static Device cards[CARDS], instances[CARDS][8];

static int64_t *of(Device *d) { return words + OWN_WORDS + d->card * WORDS; }

static int gone(Device *d) {
    words[CALLS]++;
    return of(d)[GONE] == 1 ? LOST : of(d)[GONE] == 2 ? RESET : SUCCESS;
}

#define ALIVE(d) do { int g = gone(d); if (g) return g; } while (0)
#define WHOLE(d) do { if ((d)->instance >= 0) return NOT_SUPPORTED; } while (0)

int nvmlInitWithFlags(unsigned flags) {
    const char *path = getenv("NVML_STUB");
    int file = path ? open(path, O_RDWR) : -1;
    (void)flags;
    if (file >= 0) {
        void *at = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (at != MAP_FAILED) words = at;
    }
    for (int c = 0; c < CARDS; c++) {
        cards[c].card = c, cards[c].instance = -1;
        for (int i = 0; i < 8; i++) instances[c][i].card = c, instances[c][i].instance = i;
    }
    words[INITS]++;
    return (int)words[INIT_RETURN];
}
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) {
    return code == LOST ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported" : "an error of the stub";
}
int nvmlSystemGetDriverVersion(char *to, unsigned size) { return snprintf(to, size, "999.10.02-stub"), SUCCESS; }
int nvmlSystemGetNVMLVersion(char *to, unsigned size) { return snprintf(to, size, "13.999.10-stub"), SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = (unsigned)words[COUNT], SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= (unsigned)words[COUNT]) return INVALID;
    ALIVE(&cards[index]);
    return *device = &cards[index], SUCCESS;
}
int nvmlDeviceGetUUID(Device *d, char *to, unsigned size) {
    ALIVE(d);
    if (d->instance < 0) snprintf(to, size, "GPU-%08d-stub", d->card);
    else snprintf(to, size, "MIG-%08d-%d-stub", d->card, d->instance);
    return SUCCESS;
}
int nvmlDeviceGetName(Device *d, char *to, unsigned size) {
    ALIVE(d);
    snprintf(to, size, d->instance < 0 ? "NVIDIA H100 80GB HBM3" : "NVIDIA H100 80GB HBM3 MIG 1g.10gb");
    return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(Device *d, Pci *pci) {
    ALIVE(d);
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", 0x10 + d->card);
    return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(Device *d, unsigned *rates) {
    ALIVE(d);
    WHOLE(d);
    if (of(d)[MIG]) return NOT_SUPPORTED;
    return rates[0] = (unsigned)of(d)[UTILISATION], rates[1] = 0, SUCCESS;
}
int nvmlDeviceGetMemoryInfo(Device *d, Memory *m) {
    ALIVE(d);
    uint64_t part = d->instance < 0 ? 1 : 8, used = (uint64_t)(of(d)[USED] + of(d)[RESERVED]);
    m->total = (uint64_t)of(d)[TOTAL] / part, m->used = used / part, m->free = m->total - m->used;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo_v2(Device *d, Memory2 *m) {
    ALIVE(d);
    if (m->version != 0x02000028) return 25;
    uint64_t part = d->instance < 0 ? 1 : 8;
    m->total = (uint64_t)of(d)[TOTAL] / part, m->used = (uint64_t)of(d)[USED] / part;
    m->reserved = (uint64_t)of(d)[RESERVED] / part, m->free = m->total - m->used - m->reserved;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(Device *d, int sensor, unsigned *to) {
    (void)sensor;
    ALIVE(d);
    WHOLE(d);
    return *to = (unsigned)of(d)[TEMPERATURE], SUCCESS;
}
int nvmlDeviceGetClockInfo(Device *d, int clock, unsigned *to) {
    ALIVE(d);
    WHOLE(d);
    return *to = (unsigned)of(d)[clock == 1 ? CLOCK : MEMORY_CLOCK], SUCCESS;
}
int nvmlDeviceGetCurrentClocksEventReasons(Device *d, uint64_t *to) {
    ALIVE(d);
    WHOLE(d);
    return *to = (uint64_t)of(d)[REASONS], SUCCESS;
}
int nvmlDeviceGetMigMode(Device *d, unsigned *now, unsigned *later) {
    ALIVE(d);
    return *now = *later = (unsigned)of(d)[MIG], SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *d, unsigned *to) {
    ALIVE(d);
    return *to = 7, SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *d, unsigned index, Device **to) {
    ALIVE(d);
    if (index >= (unsigned)of(d)[INSTANCES]) return NOT_FOUND;
    return *to = &instances[d->card][index], SUCCESS;
}

static int processes(Device *d, unsigned *count, Process *to) {
    ALIVE(d);
    unsigned there = (unsigned)of(d)[PROCESSES];
    if (!to || *count < there) return *count = there, there ? TOO_SMALL : SUCCESS;
    for (unsigned i = 0; i < there; i++) to[i] = (Process){4000 + i, i ? 1u << 30 : ~0ull, ~0u, ~0u};
    return *count = there, SUCCESS;
}
#ifndef OLD_LIBRARY
int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, unsigned *n, Process *to) { return processes(d, n, to); }
#else
int nvmlDeviceGetComputeRunningProcesses_v2(Device *d, unsigned *n, Process *to) { return processes(d, n, to); }
#endif

/* ---- fields ------------------------------------------------------------------------------------------------------ */

static int field(Device *d, Field *f) {
    int64_t *w = of(d);
    for (int i = NO_FIELDS; i < NO_FIELDS + 16; i++)
        if (w[i] && w[i] == (int64_t)f->id) return NOT_SUPPORTED;
    f->type = 3;
    switch (f->id) {
    case 185: f->type = 1, f->value.ui = (uint32_t)w[POWER]; break;
    case 83: f->value.ull = (uint64_t)w[ENERGY]; break;
    case 82: f->type = 1, f->value.ui = (uint32_t)w[TEMPERATURE] + 5; break;
    case 197: case 198: f->value.ull = 1000000; break;
    case 94: f->type = 1, f->value.ui = 2; break;
    case 138: case 139: if (f->scope != ~0u) return INVALID; f->value.ull = (uint64_t)w[LINK_KIB]; break;
    case 161: case 162: case 163: if (f->scope >= w[LINKS]) return INVALID; f->value.ull = 1; break;
    case 190: f->type = 1, f->value.ui = 700000; break;
    case 3: case 5: f->value.ull = 7; break;
    case 4: case 6: f->value.ull = (uint64_t)w[ECC_UNCORRECTED]; break;
    case 142: case 143: f->type = 1, f->value.ui = 0; break;
    case 144: f->type = 1, f->value.ui = (uint32_t)w[REMAP_PENDING]; break;
    case 145: f->type = 1, f->value.ui = (uint32_t)w[REMAP_FAILED]; break;
    case 230: f->type = 1, f->value.ui = (uint32_t)w[RECOVERY]; break;
    default: return NOT_SUPPORTED;
    }
    if (w[VALUE_TYPE]) f->type = (uint32_t)w[VALUE_TYPE];
    return SUCCESS;
}
int nvmlDeviceGetFieldValues(Device *d, int count, Field *fields) {
    int any = 0;
    ALIVE(d);
    WHOLE(d);
    if (of(d)[HANG_MS]) { /* as long as it is set, not as long as it was */
        of(d)[HANGING]++;
        /* Who waits for a vfork is in state D, as one in a driver that never answers. */
        int64_t held = of(d)[KERNEL];
        if (!held || vfork() == 0) {
            for (int64_t ms = 0; ms < of(d)[HANG_MS]; ms += 10) nanosleep(&(struct timespec){0, 10000000}, NULL);
            if (held) _exit(0);
        }
        of(d)[HANGING]--;
    }
    for (int i = 0; i < count; i++) {
        fields[i].result = (uint32_t)field(d, &fields[i]);
        any |= !fields[i].result;
    }
    return any ? SUCCESS : NOT_SUPPORTED;
}
int nvmlDeviceGetPowerUsage(Device *d, unsigned *to) {
    ALIVE(d);
    WHOLE(d);
    return *to = (unsigned)of(d)[POWER], SUCCESS;
}
int nvmlDeviceGetNvLinkState(Device *d, unsigned link, unsigned *up) {
    ALIVE(d);
    if (link >= (unsigned)of(d)[LINKS]) return of(d)[LINKS] ? INVALID : NOT_SUPPORTED;
    return *up = 1, SUCCESS;
}
int nvmlDeviceGetP2PStatus(Device *one, Device *other, int caps, int *status) {
    ALIVE(one);
    ALIVE(other);
    return *status = caps == 2 && of(one)[LINKS] && of(other)[LINKS] ? 0 : 1, SUCCESS;
}
int nvmlDeviceGetTopologyCommonAncestor(Device *one, Device *other, int *level) {
    ALIVE(one);
    ALIVE(other);
    return *level = one->card / 4 == other->card / 4 ? 40 : 50, SUCCESS;
}

/* ---- GPM --------------------------------------------------------------------------------------------------------- */

int nvmlGpmQueryDeviceSupport(Device *d, uint32_t *support) {
    ALIVE(d);
    return support[1] = (uint32_t)of(d)[GPM], SUCCESS;
}
int nvmlGpmSampleAlloc(void **to) { return *to = calloc(1, sizeof(int64_t *)), SUCCESS; }
int nvmlGpmSampleFree(void *sample) { return free(sample), SUCCESS; }
int nvmlGpmSampleGet(Device *d, int64_t **sample) {
    ALIVE(d);
    return *sample = of(d), SUCCESS;
}
int nvmlGpmMetricsGet(Metrics *m) {
    int64_t *w = *(int64_t **)m->two;
    for (uint32_t i = 0; i < m->count; i++) {
        Metric *metric = &m->metrics[i];
        metric->result = SUCCESS;
        if (metric->id == 2) metric->value = (double)w[SM];
        else if (metric->id == 5) metric->value = (double)w[TENSOR];
        else if (metric->id == 10) metric->value = w[DRAM] < 0 ? 0.0 / 0.0 : (double)w[DRAM];
        else metric->result = NOT_SUPPORTED;
    }
    return SUCCESS;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

int nvmlEventSetCreate(void **set) { return *set = own, SUCCESS; }
int nvmlEventSetFree(void *set) { return (void)set, SUCCESS; }
int nvmlDeviceGetSupportedEventTypes(Device *d, uint64_t *to) {
    ALIVE(d);
    return *to = 0xffff, SUCCESS;
}
int nvmlDeviceRegisterEvents(Device *d, uint64_t types, void *set) {
    (void)types, (void)set;
    ALIVE(d);
    return SUCCESS;
}
int nvmlEventSetWait_v2(void *set, Event *event, unsigned wait_ms) {
    (void)set, (void)wait_ms;
    if (words[HEAD] == words[TAIL]) return TIMEOUT;
    int64_t *from = words + OWN_WORDS + CARDS * WORDS + (words[HEAD]++ % EVENTS) * 3;
    *event = (Event){&cards[from[0]], (uint64_t)from[1], (uint64_t)from[2], ~0u, ~0u};
    return SUCCESS;
}
