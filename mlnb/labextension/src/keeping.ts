// New values that keep the parts of the old ones which did not change, so that only what did is drawn again.

type Parts = Readonly<Record<string, unknown>>;

/** Return `next` with each part that equals the one in `last` replaced by that; `last` itself if all do. */
export function keep<T>(last: T, next: T): T {
  if (Object.is(last, next)) {
    return last;
  }
  if (Array.isArray(last) && Array.isArray(next)) {
    return keepList(last, next) as T;
  }
  return isPlain(last) && isPlain(next) ? (keepParts(last, next) as T) : next;
}

function keepList(last: readonly unknown[], next: readonly unknown[]): readonly unknown[] {
  const known = new Map(last.map(one => [nameOf(one), one]));
  const kept = next.map((one, index) => {
    const name = nameOf(one);
    return keep(name === undefined ? last[index] : known.get(name), one);
  });
  return kept.length === last.length && kept.every((one, index) => Object.is(one, last[index])) ? last : kept;
}

function keepParts(last: Parts, next: Parts): Parts {
  const names = Object.keys(next);
  const kept = Object.fromEntries(names.map(name => [name, keep(last[name], next[name])]));
  const same = names.length === Object.keys(last).length && names.every(name => Object.is(kept[name], last[name]));
  return same ? last : kept;
}

/** What tells an element of a list from the others. */
function nameOf(one: unknown): string | undefined {
  if (!isPlain(one)) {
    return undefined;
  }
  return [one['process'], one['url'], one['name'], one['number']].join(' ');
}

function isPlain(value: unknown): value is Parts {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
