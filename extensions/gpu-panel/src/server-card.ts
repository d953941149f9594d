/**
 * Server card: CPU, memory and disk of this server, and how full the home is.
 *
 * A value near its limit has the theme's colour for warnings; an unknown one is an en dash.
 */
import { element, setText } from './dom';
import { UNKNOWN, formatMemory } from './format';
import { LeaseReading, ServerReading } from './message';

/** From this part of its limit on, a value is shown as a warning. */
const WARNING_PART = 0.9;

interface Row {
  node: HTMLElement;
  value: HTMLElement;
}

export class ServerCard {
  private _cpu = makeRow('CPU');
  private _memory = makeRow('Memory');
  private _home = makeRow('Home');
  private _disk = makeRow('Disk');
  readonly node = element(
    'section',
    'gpu-panel-Card gpu-panel-Server',
    element('div', 'gpu-panel-Row', element('span', '', 'Server')),
    this._cpu.node,
    this._memory.node,
    this._home.node,
    this._disk.node
  );

  constructor() {
    this.node.setAttribute('aria-label', 'CPU, memory and disk of this server');
  }

  update(server: ServerReading, lease: LeaseReading | null): void {
    show(this._cpu, formatCores(server), false);
    const { memory_used_bytes, memory_limit_bytes, disk_used_bytes, disk_total_bytes } = server;
    showPart(this._memory, memory_used_bytes, memory_limit_bytes);
    showPart(this._disk, disk_used_bytes, disk_total_bytes);
    const size = lease?.home_size_bytes ?? null;
    const quota = lease?.home_quota_bytes ?? null;
    this._home.node.hidden = quota === null;
    showPart(this._home, size, quota);
  }
}

/** "1.3 of 4 cores", "1.3 cores" without a limit. */
export function formatCores(server: ServerReading): string {
  const { cpu_cores, cpu_cores_limit } = server;
  if (cpu_cores === null) {
    return UNKNOWN;
  }
  const limit = cpu_cores_limit === null ? '' : `of ${Math.round(10 * cpu_cores_limit) / 10} `;
  return `${cpu_cores.toFixed(1)} ${limit}cores`;
}

function makeRow(label: string): Row {
  const value = element('span', 'gpu-panel-Value');
  return { node: element('div', 'gpu-panel-Row', element('span', '', label), value), value };
}

function showPart(row: Row, used: number | null, limit: number | null): void {
  const isNearlyFull = used !== null && limit !== null && used >= WARNING_PART * limit;
  show(row, formatMemory(used, limit), isNearlyFull);
}

function show(row: Row, text: string, isWarning: boolean): void {
  setText(row.value, text);
  row.value.classList.toggle('gpu-panel-mod-warning', isWarning);
}
