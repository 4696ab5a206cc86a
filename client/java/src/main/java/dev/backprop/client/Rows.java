package dev.backprop.client;

/** Rows to train on or to evaluate: a {@link Batch}, or a {@link DatasetRef} on the server. */
public sealed interface Rows permits Batch, DatasetRef {}
