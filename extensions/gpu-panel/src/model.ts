/**
 * GPU model: the latest message, the last five minutes and the connection's state.
 *
 * It uses neither DOM nor clock; time is the server's, from the messages.
 */
import { ISignal, Signal } from '@lumino/signaling';

import { GpuReading, PanelMessage } from './message';

export const SPAN_SECONDS = 300;

/** A pause longer than this many periods is drawn as a gap. */
const GAP_PERIODS = 3;

/** `connecting` is the first attempt, also after `standby`; `lost` lasts until a message comes. */
export type Connection = 'connecting' | 'live' | 'lost' | 'standby';

/** Chart columns of one GPU, of equal length; `age_seconds` is ≤ 0 and ends at the latest message. */
export interface Series {
  age_seconds: number[];
  memory_percent: (number | null)[];
  temperature_celsius: (number | null)[];
  utilization_percent: (number | null)[];
}

interface Point {
  sampled_at: number;
  memory_used_bytes: number | null;
  temperature_celsius: number | null;
  utilization_percent: number | null;
}

export class GpuModel {
  private _changed = new Signal<this, void>(this);
  private _connection: Connection = 'connecting';
  private _latest: PanelMessage | null = null;
  private _points = new Map<string, Point[]>();

  /** Emitted after every message and every change of the connection. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get connection(): Connection {
    return this._connection;
  }

  set connection(connection: Connection) {
    if (connection !== this._connection) {
      this._connection = connection;
      this._changed.emit();
    }
  }

  /** The last message, `null` before the first. */
  get latest(): PanelMessage | null {
    return this._latest;
  }

  accept(message: PanelMessage): void {
    this._latest = message;
    for (const past of message.history) {
      const points = past.sampled_at.map((sampled_at, i) => ({
        sampled_at,
        memory_used_bytes: past.memory_used_bytes[i] ?? null,
        temperature_celsius: past.temperature_celsius[i] ?? null,
        utilization_percent: past.utilization_percent[i] ?? null
      }));
      this._points.set(past.uuid, merge(this._points.get(past.uuid) ?? [], points));
    }
    for (const gpu of message.gpus) {
      const { memory_used_bytes, temperature_celsius, utilization_percent } = gpu;
      const point = {
        sampled_at: message.sampled_at,
        memory_used_bytes,
        temperature_celsius,
        utilization_percent
      };
      this._points.set(keyOf(gpu), [...(this._points.get(keyOf(gpu)) ?? []), point]);
    }
    this._forget(message.sampled_at - SPAN_SECONDS);
    this._changed.emit();
  }

  /** Return the chart columns of `gpu`, with an unknown point in every gap. */
  series(gpu: GpuReading): Series {
    const series: Series = {
      age_seconds: [],
      memory_percent: [],
      temperature_celsius: [],
      utilization_percent: []
    };
    const now = this._latest?.sampled_at ?? 0;
    const gap = GAP_PERIODS * (this._latest?.period_seconds ?? 1);
    let previous: number | null = null;
    for (const point of this._points.get(keyOf(gpu)) ?? []) {
      if (previous !== null && point.sampled_at - previous > gap) {
        push(series, (previous + point.sampled_at) / 2 - now, null, null, null);
      }
      push(
        series,
        point.sampled_at - now,
        percentOf(point.memory_used_bytes, gpu.memory_total_bytes),
        point.temperature_celsius,
        point.utilization_percent
      );
      previous = point.sampled_at;
    }
    return series;
  }

  private _forget(oldest: number): void {
    for (const [key, points] of this._points) {
      const kept = points.filter(point => point.sampled_at >= oldest);
      if (kept.length > 0) {
        this._points.set(key, kept);
      } else {
        this._points.delete(key);
      }
    }
  }
}

/** Return the key of a GPU: its UUID, or its index while the UUID is unknown. */
export function keyOf(gpu: GpuReading): string {
  return gpu.uuid ?? `index-${gpu.index}`;
}

/** Return `part` of `total` in percent, `null` if either is unknown. */
export function percentOf(part: number | null, total: number | null): number | null {
  return part === null || total === null || total === 0 ? null : (100 * part) / total;
}

function merge(own: Point[], other: Point[]): Point[] {
  const byTime = new Map([...own, ...other].map(point => [point.sampled_at, point]));
  return [...byTime.values()].sort((a, b) => a.sampled_at - b.sampled_at);
}

function push(
  series: Series,
  age: number,
  memory: number | null,
  temperature: number | null,
  utilization: number | null
): void {
  series.age_seconds.push(age);
  series.memory_percent.push(memory);
  series.temperature_celsius.push(temperature);
  series.utilization_percent.push(utilization);
}
