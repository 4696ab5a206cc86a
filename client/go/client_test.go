package backprop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codeOf returns the code of an *Error.
func codeOf(err error) codes.Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return status.Code(err)
}

func TestErrorsNameFieldsAndReasons(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	_, err := c.CreateModel(ctx, ModelSpec{InputSize: 2, Layers: []Layer{{}, {Units: 2}}})
	var e *Error
	if !errors.As(err, &e) || e.Code != codes.InvalidArgument || len(e.Violations) != 1 ||
		e.Violations[0] != (FieldViolation{"spec.layers[0].units", "must be at least 1, got 0"}) {
		t.Errorf("got %#v", err)
	}
	if want := "INVALID_ARGUMENT: spec.layers[0].units: must be at least 1, got 0"; err.Error() != want {
		t.Errorf("got %q", err.Error())
	}
	if status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) == 0 {
		t.Error("the error is not a status of gRPC")
	}
	create(t, c, "a", xorSpec)
	_, err = c.Step(ctx, "a", xorRows(), ExpectedStep(7))
	if !errors.As(err, &e) || e.Code != codes.Aborted {
		t.Fatalf("got %v", err)
	}
	if step, ok := e.CurrentStep(); !ok || step != 0 {
		t.Errorf("current step %d, %v", step, ok)
	}
	if _, err = c.GetModel(ctx, "none"); !errors.As(err, &e) || e.Reason != "MODEL_NOT_FOUND" || e.Metadata["model"] != "models/none" {
		t.Errorf("got %#v", err)
	}
	if _, ok := e.CurrentStep(); ok {
		t.Error("there is no current step")
	}
}

// Nothing listens there: a request that is sent fails with UNAVAILABLE, not INVALID_ARGUMENT.
func TestWrongArgumentsAreNotSent(t *testing.T) {
	c := connect(t, "127.0.0.1:1", WithRetry(Retry{MaxAttempts: 1}))
	ctx := timeout(t)
	wrong := NewTensor([]float32{1, 2, 3}, 2, 2)
	for field, call := range map[string]func() error{
		"name":                      func() error { _, err := c.GetModel(ctx, ""); return err },
		"model":                     func() error { _, err := c.Step(ctx, "models/", xorRows()); return err },
		"inputs.shape":              func() error { _, err := c.Predict(ctx, "a", wrong); return err },
		"batch.inputs.shape":        func() error { _, err := c.Step(ctx, "a", Batch{Inputs: wrong}); return err },
		"data.targets.shape":        func() error { _, err := c.Train(ctx, "a", Batch{Targets: wrong}); return err },
		"dataset":                   func() error { _, err := c.Train(ctx, "a", StoredDataset("")); return err },
		"outputs":                   func() error { _, err := c.Predict(ctx, "a", NewTensor([]float32{1}), 99); return err },
		"spec.layers[0].activation": func() error { _, err := c.CreateModel(ctx, ModelSpec{Layers: []Layer{{Activation: 99}}}); return err },
		"checkpoint_id":             func() error { _, err := c.CreateCheckpoint(ctx, "a", ""); return err },
		"parameters.tensors[0].tensor.shape": func() error {
			_, err := c.SetParameters(ctx, "a", &Parameters{Tensors: []NamedTensor{{"w", wrong}}})
			return err
		},
		"chunk.rows": func() error {
			_, err := c.UploadDataset(ctx, "a", Batch{Inputs: NewTensor([]float32{1, 2}, 2, 1), Labels: []int32{1}})
			return err
		},
	} {
		err := call()
		var e *Error
		if !errors.As(err, &e) || e.Code != codes.InvalidArgument || e.Violations[0].Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if _, err := c.GetModel(ctx, "a"); codeOf(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestAgainFollowsTheRules(t *testing.T) {
	ctx := context.Background()
	short := Retry{MaxAttempts: 3, FirstPause: time.Millisecond, LastPause: 2 * time.Millisecond}
	for _, c := range []struct {
		err   Error
		again bool
	}{
		{Error{Code: codes.Unavailable}, true},
		{Error{Code: codes.ResourceExhausted}, false},
		{Error{Code: codes.ResourceExhausted, retryable: true}, true},
		{Error{Code: codes.Internal}, false},
		{Error{Code: codes.DeadlineExceeded}, false},
		{Error{Code: codes.Aborted}, false},
	} {
		a := attempts{retry: short}
		if a.again(ctx, &c.err) != c.again {
			t.Errorf("%v", &c.err)
		}
	}
	a := attempts{retry: short}
	down := &Error{Code: codes.Unavailable}
	if !a.again(ctx, down) || !a.again(ctx, down) || a.again(ctx, down) {
		t.Error("there must be three attempts")
	}
	a.reset()
	start := time.Now()
	if !a.again(ctx, &Error{Code: codes.Unavailable, RetryDelay: 80 * time.Millisecond}) || time.Since(start) < 80*time.Millisecond {
		t.Errorf("the server asked for 80 ms, the client waited for %v", time.Since(start))
	}
	late, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if a.reset(); a.again(late, &Error{Code: codes.Unavailable, RetryDelay: time.Second}) {
		t.Error("the pause ends after the deadline")
	}
}

func TestPausesGrowAndAreRandom(t *testing.T) {
	a := attempts{retry: Retry{MaxAttempts: 100, FirstPause: 20 * time.Millisecond, LastPause: 40 * time.Millisecond}}
	var longest time.Duration
	pauses := map[time.Duration]bool{}
	for range 12 {
		start := time.Now()
		a.again(context.Background(), &Error{Code: codes.Unavailable})
		pause := time.Since(start)
		longest = max(longest, pause)
		pauses[pause.Round(time.Millisecond)] = true
	}
	if longest < 20*time.Millisecond || len(pauses) < 4 {
		t.Errorf("pauses %v", pauses)
	}
}

func TestRequestIDsAreRandomAndKeptByRetries(t *testing.T) {
	if a, b := newRequestID(), newRequestID(); a == b || len(a) != 32 {
		t.Errorf("%s, %s", a, b)
	}
	s := startServer(t)
	c := connect(t, s.address)
	ctx := timeout(t)
	create(t, c, "a", xorSpec)
	// The response of the step is lost, and the connection breaks.
	r := startRelay(t, s.address)
	far := connect(t, r.address())
	if _, err := far.GetModel(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	r.setHold(true)
	done := make(chan error, 1)
	go func() {
		result, err := far.Step(ctx, "a", xorRows())
		if err == nil && result.Step != 1 {
			err = fmt.Errorf("step %d", result.Step)
		}
		done <- err
	}()
	awaitStep(t, c, "a", 1)
	r.setHold(false)
	r.cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if m, err := c.GetModel(ctx, "a"); err != nil || m.Step != 1 {
		t.Errorf("the step was made twice: %v, %v", m, err)
	}
}

// awaitStep waits until a model has made some steps.
func awaitStep(t *testing.T, c *Client, model string, step int64) {
	t.Helper()
	for range 1200 {
		m, err := c.GetModel(timeout(t), model)
		if err != nil {
			t.Fatal(err)
		}
		if m.Step >= step {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("%s has not made %d steps", model, step)
}

func TestCallsSurviveAKilledServer(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address)
	create(t, c, "a", xorSpec)
	s.stop(syscall.SIGKILL)
	done := make(chan error, 1)
	go func() { _, err := c.Step(timeout(t), "a", xorRows()); done <- err }()
	time.Sleep(100 * time.Millisecond)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWaitForReady(t *testing.T) {
	s := startServer(t)
	s.stop(syscall.SIGKILL)
	impatient := connect(t, s.address, WithRetry(Retry{MaxAttempts: 1}))
	if _, err := impatient.CheckHealth(timeout(t), ""); codeOf(err) != codes.Unavailable {
		t.Fatalf("without WaitForReady: %v", err)
	}
	c := connect(t, s.address, WithRetry(Retry{MaxAttempts: 1}), WithWaitForReady())
	done := make(chan error, 1)
	go func() { _, err := c.CheckHealth(timeout(t), ""); done <- err }()
	time.Sleep(300 * time.Millisecond)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !c.Connected() {
		t.Error("not connected after a call")
	}
}

func TestDeadlines(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.address, WithTimeout(400*time.Millisecond))
	if _, err := c.CheckHealth(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.command.Process.Signal(syscall.SIGCONT) }()
	start := time.Now()
	_, err := c.CheckHealth(context.Background(), "")
	if took := time.Since(start); codeOf(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) ||
		took < 300*time.Millisecond || took > 20*time.Second {
		t.Errorf("the default of the client: %v after %v", err, took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := connect(t, s.address).CheckHealth(ctx, ""); codeOf(err) != codes.DeadlineExceeded {
		t.Errorf("the deadline of the context: %v", err)
	}
	cancelled, cancel2 := context.WithCancel(context.Background())
	cancel2()
	if _, err := c.CheckHealth(cancelled, ""); codeOf(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
}

func TestTokensStayOnThisMachineWithoutTLS(t *testing.T) {
	for address, local := range map[string]bool{
		"localhost:1": true, "LOCALHOST:1": true, "127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true,
		"[::ffff:127.0.0.1]:1": true, "unix:/x": true, "unix:///x": true, "unix-abstract:x": true, "dns:///localhost:1": true,
		"example.org:1": false, "10.0.0.1:1": false, "0.0.0.0:1": false, "[::]:1": false, "localhost.example.org:1": false,
		"127.0.0.1.example.org:1": false, "localhost:1,10.0.0.1:1": false, "dns://10.0.0.1/localhost:1": false,
		"xds:///localhost": false, "": false,
	} {
		if isThisMachine(address) != local {
			t.Errorf("%q", address)
		}
		if address == "" {
			continue
		}
		c, err := NewClient(address, WithToken("secret"))
		if err == nil {
			_ = c.Close()
		}
		refused := codeOf(err) == codes.FailedPrecondition && strings.Contains(err.Error(), "clear text")
		if refused == local {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Error("the error shows the token")
		}
	}
	t.Setenv(TokenVariable, "secret")
	if _, err := NewClient("example.org:1"); codeOf(err) != codes.FailedPrecondition {
		t.Errorf("the token of the environment: %v", err)
	}
	for _, options := range [][]Option{{WithToken("a b")}, {WithToken("")}, {WithToken(strings.Repeat("a", 8193))},
		{WithToken("a"), WithTokenFile("b")}, {WithTLS(TLS{CAFile: "/nothing"})}, {WithTLS(TLS{CertFile: "/nothing"})}} {
		if _, err := NewClient("localhost:1", options...); codeOf(err) != codes.FailedPrecondition {
			t.Errorf("%v", err)
		}
	}
}

// certificates writes a certificate authority, and certificates of the server and of a client.
func certificates(t *testing.T, directory string) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write := func(name, kind string, der []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	}
	caKey, ca := key(), template(1, "ca")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", der)
	for i, name := range []string{"server", "client"} {
		k, c := key(), template(int64(i+2), name)
		c.KeyUsage = x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		private, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".key", "PRIVATE KEY", private)
	}
}

// newToken makes a token as docs/security.md describes it.
func newToken() string {
	var bits [32]byte
	_, _ = rand.Read(bits[:])
	body := "bpt_" + base64.RawURLEncoding.EncodeToString(bits[:])
	sum := sha256.Sum256([]byte(body))
	return body + base64.RawURLEncoding.EncodeToString(sum[:])[:6]
}

func TestTLSAndTokens(t *testing.T) {
	directory := t.TempDir()
	certificates(t, directory)
	path := func(name string) string { return filepath.Join(directory, name) }
	tokens := []string{"", newToken(), newToken()}
	token := func(i int) string { return tokens[i] }
	hash := func(text string) string { sum := sha256.Sum256([]byte(text)); return hex.EncodeToString(sum[:]) }
	auth := fmt.Sprintf(`{"principals":[{"name":"w","project":"p","role":"WRITER","token_sha256":["%s"]},
		{"name":"r","project":"p","role":"READER","token_sha256":["%s"]}]}`, hash(token(1)), hash(token(2)))
	if err := os.WriteFile(path("auth.json"), []byte(auth), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "--tls-cert", path("server.pem"), "--tls-key", path("server.key"),
		"--tls-client-ca", path("ca.pem"), "--tls-client-auth", "require", "--auth-file", path("auth.json"))
	mutual := WithTLS(TLS{CAFile: path("ca.pem"), CertFile: path("client.pem"), KeyFile: path("client.key")})
	ctx := timeout(t)

	writer := connect(t, s.address, mutual, WithToken(token(1)))
	create(t, writer, "a", xorSpec)
	for _, err := range writer.Steps(ctx, "a", func(yield func(Batch) bool) { yield(xorRows()) }, 0) {
		if err != nil {
			t.Errorf("a stream: %v", err)
		}
	}
	once := WithRetry(Retry{MaxAttempts: 1})
	for name, options := range map[string][]Option{
		"no certificate": {WithTLS(TLS{CAFile: path("ca.pem")})},
		"clear text":     {},
		"another name":   {WithTLS(TLS{CAFile: path("ca.pem"), CertFile: path("client.pem"), KeyFile: path("client.key"), ServerName: "other"})},
	} {
		if _, err := connect(t, s.address, append(options, once)...).GetModel(ctx, "a"); codeOf(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewClient(s.address, WithTLS(TLS{CertFile: path("client.pem"), KeyFile: path("server.key")})); err == nil {
		t.Error("the key of another certificate is accepted")
	}

	if _, err := connect(t, s.address, mutual).GetModel(ctx, "a"); codeOf(err) != codes.Unauthenticated {
		t.Errorf("no token: %v", err)
	}
	file := path("token")
	if err := os.WriteFile(file, []byte(token(2)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := connect(t, s.address, mutual, WithTokenFile(file))
	if _, err := c.GetModel(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Step(ctx, "a", xorRows()); codeOf(err) != codes.PermissionDenied {
		t.Errorf("a reader makes a step: %v", err)
	}
	if err := os.WriteFile(file, []byte(token(1)+"  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(tokenLookPeriod)
	if _, err := c.Step(ctx, "a", xorRows()); err != nil {
		t.Errorf("the file has changed: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	time.Sleep(tokenLookPeriod)
	if _, err := c.GetModel(ctx, "a"); codeOf(err) != codes.Unauthenticated || !strings.Contains(err.Error(), file) {
		t.Errorf("the file is gone: %v", err)
	}
	t.Setenv(TokenVariable, token(1))
	if _, err := connect(t, s.address, mutual).GetModel(ctx, "a"); err != nil {
		t.Errorf("the environment: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	directory, err := os.MkdirTemp("", "bp") // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	path := filepath.Join(directory, "s")
	startServer(t, "--unix-socket", path)
	c := connect(t, "unix:"+path, WithTLS(TLS{})) // a Unix socket is clear text
	if serving, err := c.CheckHealth(timeout(t), ""); err != nil || !serving {
		t.Errorf("%v, %v", serving, err)
	}
}
