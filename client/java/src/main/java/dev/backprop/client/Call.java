package dev.backprop.client;

import io.grpc.MethodDescriptor;
import java.util.function.Function;

/**
 * A unary call that is ready to be made.
 *
 * @param method the RPC
 * @param request its request, the same for every attempt
 * @param result what the caller gets of the response
 * @param <Q> type of the request
 * @param <R> type of the response
 * @param <T> type of the result
 */
record Call<Q, R, T>(MethodDescriptor<Q, R> method, Q request, Function<R, T> result) {}
