package dev.backprop.client;

/**
 * A field of a request that was rejected, and why.
 *
 * @param field path of the field in the request, such as {@code spec.layers[0].units}
 * @param description what was expected and what the field holds
 */
public record FieldViolation(String field, String description) {}
