// One Tab stop for a list of rows, and arrow keys from row to row.

import * as React from 'react';

const HEADS = '[data-head]';

/** Attach to the element around the rows, whose heads are buttons with `data-head`. */
export function useRows(): Pick<React.HTMLAttributes<HTMLElement>, 'onKeyDown' | 'onFocus' | 'onBlur'> & {
  ref: React.RefObject<HTMLDivElement>;
} {
  const ref = React.useRef<HTMLDivElement>(null);
  const place = React.useRef(0);
  const stop = React.useRef<HTMLElement | null>(null); // the head at that place
  const held = React.useRef<Element | null>(null); // what has the focus, of all in the rows
  React.useLayoutEffect(() => {
    const heads = headsIn(ref.current);
    const there = stop.current ? heads.indexOf(stop.current) : -1; // though rows before it came or went
    place.current = there >= 0 ? there : Math.max(0, Math.min(place.current, heads.length - 1));
    stop.current = heads[place.current] ?? null;
    putTabStop(heads, place.current);
    if (held.current?.isConnected === false) {
      held.current = null;
      if (document.activeElement === document.body) {
        (heads[place.current] ?? undoNear(ref.current))?.focus(); // what had it is gone
      }
    }
  });
  const moveTo = (index: number): void => headsIn(ref.current)[index]?.focus();
  return {
    ref,
    onFocus: event => {
      held.current = event.target;
      const heads = headsIn(ref.current);
      const row = (event.target as HTMLElement).closest('[data-row]');
      const index = heads.findIndex(head => head.closest('[data-row]') === row);
      if (index >= 0) {
        place.current = index;
        stop.current = heads[index] ?? null;
        putTabStop(heads, index);
      }
    },
    onBlur: event => {
      if (document.activeElement !== event.target) {
        held.current = null; // else it is the window that lost it
      }
    },
    onKeyDown: event => {
      const head = (event.target as HTMLElement).closest<HTMLElement>(HEADS);
      const heads = headsIn(ref.current);
      const here = head ? heads.indexOf(head) : -1;
      const goal = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: heads.length - 1 }[event.key];
      const isOpen = head?.getAttribute('aria-expanded') === 'true';
      if (here < 0) {
        return;
      }
      if (goal !== undefined) {
        moveTo(goal);
      } else if ((event.key === 'ArrowRight' && !isOpen) || (event.key === 'ArrowLeft' && isOpen)) {
        head?.click();
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation();
    }
  };
}

/** Let Tab reach one of them; what is right already is left alone, so that no idle row is touched. */
function putTabStop(heads: readonly HTMLElement[], place: number): void {
  heads.forEach((head, index) => {
    const stop = index === place ? 0 : -1;
    if (head.tabIndex !== stop) {
      head.tabIndex = stop;
    }
  });
}

function headsIn(list: HTMLElement | null): HTMLElement[] {
  return list ? [...list.querySelectorAll<HTMLElement>(HEADS)] : [];
}

function undoNear(list: HTMLElement | null): HTMLElement | null {
  return list?.closest('.mlnb-side')?.querySelector<HTMLElement>('.mlnb-side-undo') ?? null;
}

/** Focus the first row that Tab reaches in the sidebar, else what else it can, else itself. */
export function focusRow(side: HTMLElement | null): void {
  (side?.querySelector<HTMLElement>('[data-head][tabindex="0"]') ?? side?.querySelector<HTMLElement>('input, button') ?? side)?.focus();
}
