// Progress on the terminal while the cluster starts: one line for each step, with the time it took.

export class Progress {
  readonly #startedAt = performance.now();
  #step: { readonly text: string; readonly at: number } | undefined;

  /** Ends the step before and begins the next. */
  step(text: string): void {
    this.done();
    this.#step = { text, at: performance.now() };
    if (process.stdout.isTTY) process.stdout.write(`  ... ${text}`);
  }

  /** Shows how far the current step is. */
  detail(text: string): void {
    if (process.stdout.isTTY && this.#step !== undefined) {
      const line = `  ... ${this.#step.text}: ${text}`;
      process.stdout.write(`\r\u001b[K${line.slice(0, (process.stdout.columns || 80) - 1)}`);
    }
  }

  /** Ends the current step. */
  done(): void {
    if (this.#step === undefined) return;
    const seconds = ((performance.now() - this.#step.at) / 1000).toFixed(1);
    const clear = process.stdout.isTTY ? '\r\u001b[K' : '';
    process.stdout.write(`${clear}  ok  ${this.#step.text} (${seconds} s)\n`);
    this.#step = undefined;
  }

  get seconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }
}
