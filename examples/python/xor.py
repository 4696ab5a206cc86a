"""XOR with the package backprop: creates a model, trains it, predicts and checks the gradients.

python xor.py HOST:PORT
"""

import sys

import numpy as np

import backprop


def xor():
    """Returns 200 points of a grid; the label is 1 if their coordinates have the same sign."""
    x, y = np.meshgrid((np.arange(20) + 0.5) / 10 - 1, (np.arange(10) + 0.5) / 5 - 1)
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    return points, (points[:, 0] * points[:, 1] > 0).astype(np.int32)


def main(address):
    with backprop.Client(address) as client:
        points, labels = xor()
        spec = backprop.ModelSpec(2, [backprop.Layer(16), backprop.Layer(2)],
                                  optimizer=backprop.Adam(learning_rate=0.01), seed=1)
        model = client.create_model(spec)
        print(f"created {model.name} with {model.parameter_count} parameters")

        # Leaving this loop early would stop the run. client.train() is the loop with a callback.
        for event in client.start_training(model, points, labels, iterations=2000,
                                           report_every=500):
            if event.progress:
                progress = event.progress
                print(f"iteration {progress.iteration:4d}: loss {progress.metrics.loss:.4f}, "
                      f"accuracy {progress.metrics.accuracy:.3f}")
        summary = event.summary
        print(summary.stop_reason)

        corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]], np.float32)
        classes = client.predict(model, corners).classes.tolist()
        print("corners:", classes)

        check = client.grad_check(model, points, labels)
        print("gradients:", "PASSED" if check.passed else check.explanation)

        fields = []
        try:
            client.create_model(backprop.ModelSpec(2, [backprop.Layer(0), backprop.Layer(2)]))
        except backprop.InvalidArgument as error:
            for violation in error.violations:
                fields.append(violation.field)
                print(f"{error.code}: {violation.field}: {violation.description}")

        client.delete_model(model)
        if summary.metrics.accuracy < 0.95 or classes != [1, 0, 0, 1] or not check.passed:
            sys.exit("the model did not learn XOR")
        if fields != ["spec.layers[0].units"]:
            sys.exit("the error does not name its field")


if __name__ == "__main__":
    main(sys.argv[1])
