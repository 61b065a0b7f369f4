export * from "./client.js";
export type * from "./answers.js";
export { Batcher, type Submitted } from "./batcher.js";
export {
  ApiError, Conflict, InDoubt, InsufficientScope, InvalidApiKey, InvalidRequest, LeaderboardError, NotFound, RateLimited,
  TransportError, Unavailable,
} from "./errors.js";
export { EventParser, type ServerSentEvent } from "./sse.js";
