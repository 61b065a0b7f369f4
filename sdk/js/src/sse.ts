export interface ServerSentEvent { event: string; data: string; id: string }

/** Parses text/event-stream (WHATWG HTML 9.2.6) from pieces of text cut anywhere. */
export class EventParser {
  /** The last `retry:` in milliseconds, null before one came. */
  retry: number | null = null;
  private rest = "";
  private afterCr = false;
  private begun = false;
  private data: string[] = [];
  private event = "";

  constructor(private id = "") {}

  /** Returns the events that the piece completes. An event the stream ends within is none. */
  push(piece: string): ServerSentEvent[] {
    const events: ServerSentEvent[] = [];
    if (piece === "") return events;
    if (!this.begun) {
      this.begun = true;
      if (piece.startsWith("\uFEFF")) piece = piece.slice(1);
    }
    if (this.afterCr && piece.startsWith("\n")) piece = piece.slice(1);
    this.afterCr = piece.endsWith("\r");
    const lines = (this.rest + piece).split(/\r\n|\r|\n/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.data.length > 0) events.push({ event: this.event || "message", data: this.data.join("\n"), id: this.id });
        this.data = [];
        this.event = "";
      } else {
        this.field(line);
      }
    }
    return events;
  }

  private field(line: string): void {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id" && !value.includes("\0")) this.id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }
}
