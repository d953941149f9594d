/**
 * Value format: GPU values and states as text.
 *
 * An unknown value is an en dash, never 0; memory is in GiB, as in NVIDIA's tools and product names.
 */
import { GpuReading, PanelMessage } from './message';

export const UNKNOWN = '–';

const BYTES_PER_GIB = 2 ** 30;
const SIMULATED_SUFFIX = /\s*\(simulated\)$/;

/** Above this number, the status bar shows sums. */
const MAX_GPUS_IN_STATUS = 2;

export function formatCelsius(value: number | null): string {
  return value === null ? UNKNOWN : `${Math.round(value)} °C`;
}

export function formatPercent(value: number | null): string {
  return value === null ? UNKNOWN : `${Math.round(value)} %`;
}

/** "12.0 / 80 GiB", "– / 80 GiB", or "–" when both are unknown. */
export function formatMemory(used: number | null, total: number | null): string {
  if (used === null && total === null) {
    return UNKNOWN;
  }
  return `${usedGib(used)} / ${totalGib(total)} GiB`;
}

/** "252 / 400 W", "252 W" without a known limit, or "–". */
export function formatPower(watts: number | null, limit: number | null): string {
  if (watts === null) {
    return UNKNOWN;
  }
  return limit === null
    ? `${Math.round(watts)} W`
    : `${Math.round(watts)} / ${Math.round(limit)} W`;
}

/** "1 min 20 s ago" for an age of -80 seconds. */
export function formatAge(age_seconds: number): string {
  const seconds = Math.round(-age_seconds);
  if (seconds <= 0) {
    return 'now';
  }
  const minutes = Math.floor(seconds / 60);
  const rest = `${seconds % 60} s`;
  return minutes === 0 ? `${rest} ago` : `${minutes} min ${rest} ago`;
}

/** "2 h 14 min", "under a minute": the hub's form (`tests/contract/panel-durations.json`). */
export function formatDuration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (minutes < 1) {
    return 'under a minute';
  }
  const parts: [number, string][] = [
    [days, 'd'],
    [hours % 24, 'h'],
    [days > 0 ? 0 : minutes % 60, 'min']
  ];
  return parts
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

/** "16:44", or with its weekday unless that is the day of `now`: as the hub's pages write it. */
export function formatMoment(moment: Date, now: Date): string {
  const isToday = moment.toDateString() === now.toDateString();
  return moment.toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
    ...(isToday ? {} : { weekday: 'short' })
  });
}

/** "GPU 0", or "MIG instance 0": counted from 0 in what this server sees. */
export function formatTitle(gpu: GpuReading): string {
  return `${gpu.uuid?.startsWith('MIG-') ? 'MIG instance' : 'GPU'} ${gpu.index}`;
}

/** The product name without the mark of a simulated GPU, which has a badge of its own. */
export function formatName(gpu: GpuReading): string {
  return gpu.name === null ? 'Unknown model' : gpu.name.replace(SIMULATED_SUFFIX, '');
}

/** Return the sentence about a GPU that does not answer, `null` for a healthy one. */
export function describeProblem(gpu: GpuReading): string | null {
  switch (gpu.health) {
    case 'ok':
      return null;
    case 'lost':
      return `${formatTitle(gpu)} is lost: the driver no longer reaches it. Save your work, stop this server and tell your admin.`;
    case 'unknown':
      return `${formatTitle(gpu)} returns an error instead of its values. If the error stays, stop this server and tell your admin.`;
  }
}

/** The status bar's text, such as "GPU 12.0/80 GiB · 54 °C". */
export function formatStatus(message: PanelMessage | null): string {
  if (message === null) {
    return `GPU ${UNKNOWN}`;
  }
  if (message.error !== null) {
    return 'GPU error';
  }
  const { gpus } = message;
  if (gpus.length === 0) {
    return 'No GPU';
  }
  if (gpus.length <= MAX_GPUS_IN_STATUS) {
    return `GPU ${gpus.map(statusOf).join(' | ')}`;
  }
  return statusOfMany(gpus);
}

/** One line per GPU for the status bar's tooltip. */
export function describeGpus(message: PanelMessage | null): string {
  return (message?.gpus ?? [])
    .map(gpu =>
      [
        `${formatTitle(gpu)}: ${formatName(gpu)}${gpu.simulated ? ' (simulated)' : ''}`,
        formatMemory(gpu.memory_used_bytes, gpu.memory_total_bytes),
        formatCelsius(gpu.temperature_celsius),
        formatPercent(gpu.utilization_percent)
      ].join(' · ')
    )
    .join('\n');
}

function statusOf(gpu: GpuReading): string {
  if (gpu.health === 'lost') {
    return 'lost';
  }
  const memory = `${usedGib(gpu.memory_used_bytes)}/${totalGib(gpu.memory_total_bytes)} GiB`;
  return `${memory} · ${formatCelsius(gpu.temperature_celsius)}`;
}

function statusOfMany(gpus: GpuReading[]): string {
  const sum = (values: (number | null)[]): number | null =>
    values.reduce((total, value) => (total === null || value === null ? null : total + value), 0);
  const answering = gpus.filter(gpu => gpu.health === 'ok');
  const used = usedGib(sum(answering.map(gpu => gpu.memory_used_bytes)));
  const total = totalGib(sum(answering.map(gpu => gpu.memory_total_bytes)));
  const known = gpus.map(gpu => gpu.temperature_celsius).filter(value => value !== null);
  const hottest = formatCelsius(known.length === 0 ? null : Math.max(...known));
  const silent = gpus.length - answering.length;
  const text = `${gpus.length} GPUs ${used}/${total} GiB · ≤ ${hottest}`;
  return silent === 0 ? text : `${text} · ${silent} failing`;
}

function usedGib(bytes: number | null): string {
  return bytes === null ? UNKNOWN : (bytes / BYTES_PER_GIB).toFixed(1);
}

function totalGib(bytes: number | null): string {
  return bytes === null ? UNKNOWN : (bytes / BYTES_PER_GIB).toFixed(1).replace(/\.0$/, '');
}
