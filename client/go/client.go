package backprop

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"os"
	"time"

	pb "backprop.dev/go/backprop/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// DefaultTimeout is the time that a unary call may take, retries included, if its context has no
// deadline.
const DefaultTimeout = 60 * time.Second

// TokenVariable is the environment variable with the bearer token, if no option gives one.
const TokenVariable = "BACKPROP_TOKEN"

// A Client is a connection to a server. It connects on first use, and again when the connection
// breaks. Its methods may be called from many goroutines. A model is named "models/{id}" or "{id}",
// and datasets, checkpoints and projects likewise.
type Client struct {
	config config
	conn   *grpc.ClientConn
	rpc    pb.TrainingServiceClient
	admin  pb.AdminServiceClient
	health grpc_health_v1.HealthClient
}

type config struct {
	retry          Retry
	timeout        time.Duration
	tls            *TLS
	tlsConfig      *tls.Config
	token          *string
	tokenFile      string
	allowClearText bool
	waitForReady   bool
	keepalive      time.Duration
	dial           []grpc.DialOption
}

// An Option configures a [Client].
type Option func(*config)

// WithTLS encrypts the connection. Unix sockets stay clear text.
func WithTLS(t TLS) Option { return func(c *config) { c.tls = &t } }

// WithTLSConfig is [WithTLS] for a configuration that is not in files.
func WithTLSConfig(t *tls.Config) Option { return func(c *config) { c.tlsConfig = t.Clone() } }

// WithToken sends a bearer token with each call: visible ASCII characters, at most 8 KiB.
func WithToken(token string) Option { return func(c *config) { c.token = &token } }

// WithTokenFile sends the token in a file, which is read again when it changes. White space around
// the token is ignored. While the file cannot be read, calls fail with UNAUTHENTICATED.
func WithTokenFile(path string) Option { return func(c *config) { c.tokenFile = path } }

// WithClearTextToken allows that the token travels unencrypted to other machines.
func WithClearTextToken() Option { return func(c *config) { c.allowClearText = true } }

// WithRetry changes how calls that end with UNAVAILABLE are repeated.
func WithRetry(r Retry) Option { return func(c *config) { c.retry = r.withDefaults() } }

// WithTimeout changes [DefaultTimeout]. 0: unary calls have no deadline unless their context has
// one.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithWaitForReady makes each attempt of a call wait until the server can be reached, as long as
// the deadline of the call allows. Without it (the default), an attempt fails with UNAVAILABLE when
// no connection can be made, and counts as one of [Retry].MaxAttempts. Use it for a server that
// may be away for longer than the retries take.
func WithWaitForReady() Option { return func(c *config) { c.waitForReady = true } }

// WithKeepalive changes how long a call is idle before the connection is checked by a ping; at
// least 10 s, the default. 0: no pings. A server or network that does not respond for another 10 s
// is given up: the connection is closed and calls are retried.
func WithKeepalive(d time.Duration) Option { return func(c *config) { c.keepalive = d } }

// WithDialOptions adds options of gRPC, for example grpc.WithNoProxy or interceptors.
func WithDialOptions(o ...grpc.DialOption) Option {
	return func(c *config) { c.dial = append(c.dial, o...) }
}

// NewClient returns a client of the server at address: "host:port" or "unix:/path". It does not
// connect. It fails with FAILED_PRECONDITION if the files of TLS or the token cannot be used, or if
// a token would travel in clear text to another machine.
func NewClient(address string, options ...Option) (*Client, error) {
	c := &Client{config: config{retry: Retry{}.withDefaults(), timeout: DefaultTimeout, keepalive: 10 * time.Second}}
	for _, option := range options {
		option(&c.config)
	}
	transport, encrypted, err := c.config.transport(address)
	if err != nil {
		return nil, failed(codes.FailedPrecondition, "", "TLS: %s", err)
	}
	source, err := c.config.tokens(address, encrypted)
	if err != nil {
		return nil, failed(codes.FailedPrecondition, "", "%s", err)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		// By default gRPC fails every call for a second after a refused connection, and rejects
		// responses of more than 4 MB. The server enforces its limits, and retries have pauses of
		// their own.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second, Backoff: backoff.Config{
			BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32),
			grpc.WaitForReady(c.config.waitForReady)),
		grpc.WithDisableServiceConfig(),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, request, response any,
			conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			ctx, err := authorize(ctx, source)
			if err != nil {
				return err
			}
			return invoke(ctx, method, request, response, conn, o...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn,
			method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			ctx, err := authorize(ctx, source)
			if err != nil {
				return nil, err
			}
			return open(ctx, d, conn, method, o...)
		}),
	}
	if c.config.keepalive > 0 {
		dial = append(dial, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: c.config.keepalive, Timeout: 10 * time.Second}))
	}
	if c.conn, err = grpc.NewClient(address, append(dial, c.config.dial...)...); err != nil {
		return nil, failed(codes.FailedPrecondition, "", "%s", err)
	}
	c.rpc = pb.NewTrainingServiceClient(c.conn)
	c.admin = pb.NewAdminServiceClient(c.conn)
	c.health = grpc_health_v1.NewHealthClient(c.conn)
	return c, nil
}

func (c *config) transport(address string) (_ credentials.TransportCredentials, encrypted bool, err error) {
	config := c.tlsConfig
	if c.tls != nil {
		if config, err = c.tls.config(); err != nil {
			return nil, false, err
		}
	}
	if config == nil || isUnixSocket(address) {
		return insecure.NewCredentials(), false, nil
	}
	return credentials.NewTLS(config), true, nil
}

// tokens returns the source of tokens; nil if there is none.
func (c *config) tokens(address string, encrypted bool) (tokenSource, error) {
	var source tokenSource
	from := "the token"
	switch text, set := os.LookupEnv(TokenVariable); {
	case c.token != nil && c.tokenFile != "":
		return nil, fmt.Errorf("a token and a token file cannot both be given")
	case c.tokenFile != "":
		source = &tokenFile{path: c.tokenFile}
	case c.token != nil:
		source = fixedToken(*c.token)
	case set && text != "":
		source, from = fixedToken(text), "the token in "+TokenVariable
	default:
		return nil, nil
	}
	if fixed, is := source.(fixedToken); is {
		if err := checkToken(string(fixed)); err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
	}
	if !encrypted && !c.allowClearText && !isThisMachine(address) {
		return nil, fmt.Errorf("%s is not sent to %s in clear text; use WithTLS, or allow it with WithClearTextToken",
			from, address)
	}
	return source, nil
}

// Close ends all calls with CANCELLED and closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Connected returns whether the connection is established, as far as the client knows. It makes no
// call.
func (c *Client) Connected() bool { return c.conn.GetState() == connectivity.Ready }

// CheckHealth returns whether a service is serving; "": the server as a whole.
func (c *Client) CheckHealth(ctx context.Context, service string) (bool, error) {
	response, err := unary(ctx, c, c.health.Check, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return false, err
	}
	return response.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING, nil
}
