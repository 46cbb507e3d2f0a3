// Numbers, times and names as a person reads them.

import type { Deployment } from './api';

const NONE = '–';

/** Requests per second: 0, 0.4, 12, 1.2k. */
export function rate(value: number | null): string {
  if (value === null) {
    return NONE;
  }
  if (value >= 999.5) {
    return `${(value / 1000).toFixed(value < 9950 ? 1 : 0)}k`;
  }
  return value < 0.05 ? '0' : value.toFixed(value < 9.95 ? 1 : 0);
}

/** A duration given in milliseconds: 0.8 ms, 42 ms, 1.2 s. */
export function duration(value: number | null): string {
  if (value === null) {
    return NONE;
  }
  return value >= 999.5 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 9.95 ? 1 : 0)} ms`;
}

/** `count` with its noun: 1 error, 2 errors. */
export function count(value: number, noun: string): string {
  return `${value} ${noun}${value === 1 ? '' : 's'}`;
}

/** A metric to three significant digits, large ones whole, and those past a milliard as 1.00e+9. */
export function metric(value: number | null): string {
  if (value === null) {
    return NONE;
  }
  const size = Math.abs(value);
  if (size >= 999.5 && size < 1e9) {
    return Math.round(value).toLocaleString('en');
  }
  return Number.isInteger(value) && size < 1e9 ? String(value) : value.toPrecision(3);
}

const STEPS: readonly (readonly [seconds: number, word: string])[] = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min']
];
const WEEK = 7 * 86_400;

/** How long ago: just now, 5 min ago, 2 d ago; after a week the day, with its year if that is another one. */
export function ago(time: string, now: number): string {
  const seconds = (now - Date.parse(time)) / 1000;
  if (Number.isNaN(seconds)) {
    return '';
  }
  if (seconds > WEEK) {
    const sameYear = new Date(time).getFullYear() === new Date(now).getFullYear();
    const year = sameYear ? undefined : 'numeric';
    return new Date(time).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year });
  }
  const step = STEPS.find(([length]) => seconds >= length);
  return step ? `${Math.floor(seconds / step[0])} ${step[1]} ago` : 'just now';
}

/** The last part of a path. */
export function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Points of a curve through `values` in a box, the newest at its right edge. */
export function curve(values: readonly number[], width: number, height: number): string {
  const top = Math.max(1, ...values);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, index) => {
    const y = height - 1 - (value / top) * (height - 2);
    return `${(index * step).toFixed(1)},${y.toFixed(1)}`;
  });
  return points.join(' ');
}

/** A row of the list in words, without its figures. */
export function spoken(one: Deployment): string {
  const words = [one.name];
  if (one.version !== null) {
    words.push(`version ${one.version}`);
  }
  words.push(one.state === 'silent' ? 'does not answer now' : 'live');
  if (one.alerts > 0) {
    words.push(`${count(one.alerts, 'alert')} firing`);
  }
  if (one.notebook) {
    words.push(fileName(one.notebook));
  }
  return words.join(', ');
}

/** The figures of a row in words. */
export function spokenFigures(one: Deployment): string {
  if (one.state === 'silent') {
    return '';
  }
  const latency = one.p99 === null ? 'no latency yet' : `99th percentile ${duration(one.p99)}`;
  return `${rate(one.rate)} requests per second, ${latency}, ${count(one.errors ?? 0, 'error')}`;
}
