// A line to the service that breaks where it hurts.
import { connect, createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

export class Proxy {
  readonly url: string;
  /** How often it broke. */
  cuts = 0;
  /** How long the client stayed away when it was sent away, in milliseconds. */
  away: number[] = [];
  #target: URL;
  #server: Server;
  #booking: "lose" | "refuse" | undefined;
  #event: "tear" | "send away" | undefined;
  #sentAway: number | undefined;

  private constructor(target: URL, server: Server) {
    this.#target = target;
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("connection", (socket) => this.#carry(socket));
  }

  static async before(target: string): Promise<Proxy> {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return new Proxy(new URL(target), server);
  }

  /** The next booking is carried out, and its answer is lost. */
  loseBooking(): void {
    this.#booking = "lose";
  }

  /** The next booking does not arrive: something on the way is busy for two seconds. */
  refuseBooking(): void {
    this.#booking = "refuse";
  }

  /** The next entry of a timeline breaks off in its middle. */
  tearEvent(): void {
    this.#event = "tear";
  }

  /** After the next entry of a timeline the client is told to come again a second later. */
  sendAway(): void {
    this.#event = "send away";
  }

  close(): void {
    this.#server.close();
  }

  #carry(client: Socket): void {
    const service = connect(Number(this.#target.port), this.#target.hostname);
    let lost = false;
    client.on("data", (bytes) => {
      const text = bytes.toString("latin1");
      if (this.#booking !== undefined && text.startsWith("POST /v1/rentals HTTP")) {
        lost = this.#booking === "lose";
        this.#booking = undefined;
        if (!lost) {
          client.end("HTTP/1.1 503 Busy\r\nretry-after: 2\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy");
          return;
        }
      }
      if (this.#sentAway !== undefined && /^GET \S+\/events HTTP/.test(text)) {
        this.away.push(Date.now() - this.#sentAway);
        this.#sentAway = undefined;
      }
      service.write(bytes);
    });
    service.on("data", (bytes) => {
      const entry = /^event: (state|tx)$/m.test(bytes.toString("latin1"));
      const fault = entry ? this.#event : undefined;
      if (lost) {
        this.cuts += 1;
        client.destroy();
      } else if (fault === undefined) {
        client.write(bytes);
      } else {
        this.#event = undefined;
        this.cuts += 1;
        if (fault === "tear") {
          client.write(bytes.subarray(0, bytes.length - 10), () => client.destroy());
          return;
        }
        const word = "event: reconnect\nretry: 1000\ndata: {}\n\n";
        this.#sentAway = Date.now();
        client.write(bytes);
        client.end(`${word.length.toString(16)}\r\n${word}\r\n0\r\n\r\n`);
      }
    });
    for (const [one, other] of [
      [client, service],
      [service, client],
    ] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  }
}
