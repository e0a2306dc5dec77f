// What may be asked and what is answered, derived from the API's description.
import type { paths } from "./schema.js";

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** The description of one route. */
type Operation<P extends keyof paths, M extends Method> = paths[P][M];

type Content<R> = R extends { content: infer C } ? C[keyof C] : undefined;
type Responses<O> = O extends { responses: infer R } ? R : never;
type Parameters<O> = O extends { parameters: infer A } ? A : never;
type Good<O> = keyof Responses<O> & (200 | 201 | 202 | 204);
type AnswerOf<O> = Content<Responses<O>[Good<O>]>;
type Streams<O> = Responses<O> extends { 200: { content: { "text/event-stream": unknown } } } ? true : false;

/** The paths that take this method and give one answer. */
export type Path<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }>
    ? Streams<paths[P][M]> extends true
      ? never
      : P
    : never;
}[keyof paths];

/** The paths that answer events. */
export type StreamPath = {
  [P in keyof paths]: paths[P] extends { get: infer O } ? (Streams<O> extends true ? P : never) : never;
}[keyof paths];

/** The paths that move money: they take an `Idempotency-Key`. */
export type KeyedPath = {
  [P in keyof paths]: paths[P] extends { post: { parameters: { header: { "Idempotency-Key": string } } } } ? P : never;
}[keyof paths]
  // x402's first request needs none
  | "/v1/rentals";

type Asked<A> = A extends { query?: infer Q } ? NonNullable<Q> : never;
type Page<O> = Extract<AnswerOf<O>, { data: unknown[] }>;
type IsList<O> = [Page<O>] extends [never]
  ? false
  : [Asked<Parameters<O>>] extends [never]
    ? false
    : "cursor" extends keyof Asked<Parameters<O>>
      ? true
      : false;

/** The paths whose answers go on at `cursor`. */
export type ListPath = {
  [P in Path<"get">]: IsList<paths[P]["get"]> extends true ? P : never;
}[Path<"get">];

type Body<O> = O extends { requestBody: { content: { "application/json": infer B } } } ? { body: B } : { body?: never };
// a key that is not given is made
type Header<A> = A extends { header: { "Idempotency-Key": string } & infer H }
  ? { header?: Partial<H> }
  : A extends { header: infer H }
    ? { header: H }
    : A extends { header?: infer H }
      ? { header?: NonNullable<H> }
      : { header?: never };
type Query<A> = A extends { query: infer Q }
  ? { query: Q }
  : A extends { query?: infer Q }
    ? { query?: NonNullable<Q> }
    : { query?: never };
type InPath<A> = A extends { path: infer V } ? { path: V } : { path?: never };

// operation by operation: an intersection of unions over all of them would be too much for the compiler
type InitOf<O> = O extends { parameters: infer A }
  ? InPath<A> & Query<A> & Header<A> & Body<O> & { signal?: AbortSignal }
  : never;

/** What is sent along: parts of the path, query, headers, body. */
export type Init<P extends keyof paths, M extends Method> = InitOf<Operation<P, M>>;

/** Left out if nothing has to be sent. */
export type Rest<I> = Record<never, never> extends I ? [init?: I] : [init: I];

/** What is answered. */
export type Answer<P extends keyof paths, M extends Method> = AnswerOf<Operation<P, M>>;

/** One thing of a list. */
export type Item<P extends ListPath> = Page<paths[P]["get"]>["data"][number];
