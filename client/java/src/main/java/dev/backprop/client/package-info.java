/**
 * A client of backpropd, a gRPC service that trains small neural networks.
 *
 * <p>{@link dev.backprop.client.BackpropClient} makes the calls. Data travels as {@link
 * dev.backprop.client.Tensor} and {@link dev.backprop.client.Batch}, which hold arrays of numbers
 * as raw bytes. Descriptions of models, runs, metrics and checkpoints are the generated messages of
 * {@code dev.backprop.v1}, so that every field of the server is available. {@link
 * dev.backprop.client.Specs} makes the common ones in one line. Every failure is a {@link
 * dev.backprop.client.BackpropException}.
 *
 * <pre>{@code
 * try (BackpropClient client = BackpropClient.connect("localhost:50051")) {
 *   Model model = client.createModel(Specs.mlp(2, 16, 2).setOptimizer(Specs.adam(0.01)).build());
 *   Batch batch = Batch.of(Tensor.of(inputs, 200, 2), labels);
 *   TrainingSummary summary = client.train(model.getName(), batch, TrainOptions.iterations(2000),
 *       event -> System.out.println(event.getProgress().getMetrics().getLoss()));
 * }
 * }</pre>
 */
package dev.backprop.client;
