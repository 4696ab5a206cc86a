package dev.backprop.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.io.Serial;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * A call that failed: on the server, on the way, or in a check before it was sent. docs/api.md of
 * the project lists the codes and reasons.
 */
public final class BackpropException extends RuntimeException {
  @Serial private static final long serialVersionUID = 1;

  /** A server cannot make a client wait for longer. */
  private static final long MAX_RETRY_DELAY_SECONDS = 60;

  /** Canonical code. */
  private final Status.Code code;

  /** Text without the code. */
  private final String description;

  /** Rejected fields, in the order of the server. */
  private final transient List<FieldViolation> violations;

  /** Reason of the ErrorInfo. */
  private final String reason;

  /** Metadata of the ErrorInfo. */
  private final transient Map<String, String> metadata;

  /** Delay of the RetryInfo, or null. */
  private final Duration retryDelay;

  private BackpropException(
      Status.Code code,
      String description,
      List<FieldViolation> violations,
      String reason,
      Map<String, String> metadata,
      Duration retryDelay,
      Throwable cause) {
    super(code + ": " + description, cause);
    this.code = code;
    this.description = description;
    this.violations = List.copyOf(violations);
    this.reason = reason;
    this.metadata = Map.copyOf(metadata);
    this.retryDelay = retryDelay;
  }

  static BackpropException of(Status.Code code, String description, Throwable cause) {
    return new BackpropException(code, description, List.of(), "", Map.of(), null, cause);
  }

  /** A failure that this library names. */
  static BackpropException withReason(Status.Code code, String reason, String description) {
    return new BackpropException(code, description, List.of(), reason, Map.of(), null, null);
  }

  /** A request that is wrong in one field and was not sent. */
  static BackpropException invalid(String field, String description) {
    return new BackpropException(
        Status.Code.INVALID_ARGUMENT,
        field + ": " + description,
        List.of(new FieldViolation(field, description)),
        "",
        Map.of(),
        null,
        null);
  }

  /** Decodes the status of a call, with the details in its trailers (null: none). */
  static BackpropException of(Status status, Metadata trailers, Throwable cause) {
    List<Any> details = List.of();
    if (trailers != null) {
      com.google.rpc.Status full = StatusProto.fromStatusAndTrailers(status, trailers);
      if (full != null) details = full.getDetailsList();
    }
    String description = status.getDescription();
    if (description == null) {
      description = status.getCause() == null ? "" : String.valueOf(status.getCause());
    } else if (status.getCause() != null && details.isEmpty()) {
      description += " (" + status.getCause().getMessage() + ")";
    }
    return of(status.getCode(), description, details, cause);
  }

  /** Decodes a status inside a message. */
  static BackpropException of(com.google.rpc.Status status) {
    return of(
        Status.fromCodeValue(status.getCode()).getCode(),
        status.getMessage(),
        status.getDetailsList(),
        null);
  }

  private static BackpropException of(
      Status.Code code, String description, List<Any> details, Throwable cause) {
    List<FieldViolation> violations = new ArrayList<>();
    String reason = "";
    Map<String, String> metadata = Map.of();
    Duration retryDelay = null;
    for (Any detail : details) {
      try {
        if (detail.is(BadRequest.class)) {
          for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            violations.add(new FieldViolation(violation.getField(), violation.getDescription()));
          }
        } else if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason();
          metadata = info.getMetadataMap();
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryDelay =
              Duration.ofSeconds(
                  Math.min(Math.max(delay.getSeconds(), 0), MAX_RETRY_DELAY_SECONDS),
                  Math.min(Math.max(delay.getNanos(), 0), 999_999_999));
        }
      } catch (InvalidProtocolBufferException ignored) {
        // The code and the text are still right.
      }
    }
    return new BackpropException(
        code, description, violations, reason, metadata, retryDelay, cause);
  }

  /** The same failure with the reason CONNECTION_BROKE or another code. */
  BackpropException as(Status.Code other, String text) {
    return new BackpropException(other, text, violations, reason, metadata, retryDelay, this);
  }

  /**
   * Returns the canonical code.
   *
   * @return the code
   */
  public Status.Code code() {
    return code;
  }

  /**
   * Returns the text of the error. {@link #getMessage} returns it after the code.
   *
   * @return the text without the code
   */
  public String description() {
    return description;
  }

  /**
   * Returns the rejected fields of an INVALID_ARGUMENT.
   *
   * @return one entry for each wrong field; empty for other codes
   */
  public List<FieldViolation> violations() {
    return violations == null ? List.of() : violations;
  }

  /**
   * Returns the reason, such as STEP_MISMATCH or RUN_UNDER_WAY.
   *
   * @return the reason; empty if the error has none
   */
  public String reason() {
    return reason;
  }

  /**
   * Returns the details of the reason, such as {@code current_step} of a STEP_MISMATCH.
   *
   * @return the details by name
   */
  public Map<String, String> metadata() {
    return metadata == null ? Map.of() : metadata;
  }

  /**
   * Returns how long the server asks to wait before a retry.
   *
   * @return the time, if the server named one
   */
  public Optional<Duration> retryDelay() {
    return Optional.ofNullable(retryDelay);
  }

  /**
   * Returns the step count of the model of a STEP_MISMATCH.
   *
   * @return the step count; empty for other reasons
   */
  public OptionalLong currentStep() {
    return number("current_step");
  }

  /** Returns a number of the metadata. */
  OptionalLong number(String key) {
    String text = metadata().get(key);
    try {
      return text == null ? OptionalLong.empty() : OptionalLong.of(Long.parseLong(text));
    } catch (NumberFormatException e) {
      return OptionalLong.empty();
    }
  }
}
