package backprop

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// serverBinary returns the server to test against. A test without a server fails.
func serverBinary() string {
	if path := os.Getenv("BACKPROPD"); path != "" {
		return path
	}
	return "../../build/release/bin/backpropd"
}

// SetExampleAddress tells the Example functions, which are in another package, where the server is.
var SetExampleAddress func(string)

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "backprop-go-")
	if err != nil {
		panic(err)
	}
	s := &server{directory: directory, flags: []string{"--listen", "127.0.0.1:0"}}
	if err := s.start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	SetExampleAddress(s.address)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		s.stop(syscall.SIGKILL)
		_ = os.RemoveAll(directory)
		os.Exit(code)
	}))
}

// A server is a process of backpropd.
type server struct {
	directory string
	flags     []string
	address   string // the same after a restart
	command   *exec.Cmd
}

func (s *server) start() error {
	portFile := filepath.Join(s.directory, "address")
	_ = os.Remove(portFile)
	log, err := os.OpenFile(filepath.Join(s.directory, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	flags := s.flags
	if s.address != "" {
		flags = append(flags[:len(flags):len(flags)], "--listen", s.address)
	}
	s.command = exec.Command(serverBinary(), append(flags, "--port-file", portFile)...)
	s.command.Stderr = log
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.command.Start(); err != nil {
		return fmt.Errorf("the server cannot be started; build it, or name it in BACKPROPD: %w", err)
	}
	for range 600 {
		if text, _ := os.ReadFile(portFile); len(text) > 0 {
			s.address = strings.TrimSpace(string(text))
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	s.stop(syscall.SIGKILL)
	return fmt.Errorf("the server did not start:\n%s", text)
}

func (s *server) stop(signal syscall.Signal) {
	_ = s.command.Process.Signal(signal)
	_ = s.command.Wait()
}

// leaksChecked is the test at whose end goroutines are looked for, after all that it cleans up.
var leaksChecked *testing.T

func noGoroutines(t *testing.T) {
	var err error
	for range 20 { // goroutines of a closed connection end a little later
		if err = goleak.Find(); err == nil {
			return
		}
	}
	t.Error(err)
}

// startServer starts a server with a data directory and stops it at the end of the test. At the end
// the test must have left no goroutine.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	if leaksChecked != t {
		leaksChecked = t
		t.Cleanup(func() { noGoroutines(t) })
	}
	directory := t.TempDir()
	s := &server{directory: directory, flags: append([]string{"--data-dir", filepath.Join(directory, "data")}, flags...)}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	_ = listener.Close()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(syscall.SIGKILL) })
	return s
}

// restart kills the server without warning and starts it again on the same address and data.
func (s *server) restart(t *testing.T) {
	t.Helper()
	s.stop(syscall.SIGKILL)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// patient tolerates a restart on a busy machine.
var patient = WithRetry(Retry{MaxAttempts: 200})

func connect(t *testing.T, address string, options ...Option) *Client {
	t.Helper()
	c, err := NewClient(address, append([]Option{patient}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// timeout bounds a test.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A relay passes TCP connections on, until it is told to hold what the server answers, or to cut.
type relay struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	cuts     []net.Conn
	hold     bool
	cutAfter int64 // bytes of responses, over all connections; 0: never
	passed   int64
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target}
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.cuts = append(r.cuts, near, far)
			r.mu.Unlock()
			all.Add(2)
			go func() { defer all.Done(); _, _ = io.Copy(far, near); _ = far.Close() }()
			go func() { defer all.Done(); r.answers(near, far) }()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); r.cut(); all.Wait() })
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// answers copies what the server sends, unless it is held.
func (r *relay) answers(near, far net.Conn) {
	defer func() { _ = near.Close() }()
	buffer := make([]byte, 16<<10)
	for {
		n, err := far.Read(buffer)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.passed += int64(n)
		held, over := r.hold, r.cutAfter > 0 && r.passed > r.cutAfter
		if over {
			r.cutAfter = 0
		}
		r.mu.Unlock()
		if over {
			_ = far.Close()
			return
		}
		if held {
			continue // lost
		}
		if _, err := near.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (r *relay) setHold(hold bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = hold
}

func (r *relay) cutAfterBytes(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutAfter, r.passed = n, 0
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.cuts {
		_ = c.Close()
	}
	r.cuts = nil
}

// xorRows returns 200 points of a grid; the class is 1 if their coordinates have the same sign.
func xorRows() Batch {
	var points []float32
	var labels []int32
	for i := range 20 {
		for j := range 10 {
			x, y := (float32(i)+0.5)/10-1, (float32(j)+0.5)/5-1
			points = append(points, x, y)
			label := int32(0)
			if x*y > 0 {
				label = 1
			}
			labels = append(labels, label)
		}
	}
	return Batch{Inputs: NewTensor(points, 200, 2), Labels: labels}
}

var xorSpec = ModelSpec{InputSize: 2, Layers: []Layer{{Units: 16}, {Units: 2}}, Optimizer: Adam{LearningRate: 0.01}, Seed: 1}

// slowSpec takes about a millisecond for a step on slowRows.
var slowSpec = ModelSpec{InputSize: 64, Layers: []Layer{{Units: 256}, {Units: 256}, {Units: 2}}, Seed: 5}

func slowRows() Batch {
	values := make([]float32, 512*64)
	labels := make([]int32, 512)
	for i := range values {
		values[i] = float32(i*7919%1000)/500 - 1
	}
	for i := range labels {
		labels[i] = int32(i % 2)
	}
	return Batch{Inputs: NewTensor(values, 512, 64), Labels: labels}
}

func create(t *testing.T, c *Client, id string, spec ModelSpec) {
	t.Helper()
	if _, err := c.CreateModel(timeout(t), spec, ModelID(id)); err != nil {
		t.Fatal(err)
	}
}
