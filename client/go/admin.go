package backprop

import (
	"context"
	"iter"
	"time"

	pb "backprop.dev/go/backprop/v1"
)

// A Project is what a project uses of a server, and what it may use.
type Project struct {
	Name   string // projects/{id}
	Quotas []QuotaUse
	Weight float64 // in the compute pool
}

// QuotaUse is one quota of a project. docs/security.md lists them.
type QuotaUse struct {
	Quota string
	Used  *int64   // nil for rates
	Limit *float64 // nil: limited by the limits of the server only
}

func projectOf(m *pb.Project) *Project {
	p := &Project{Name: m.GetName(), Weight: m.GetWeight()}
	for _, q := range m.GetQuotas() {
		p.Quotas = append(p.Quotas, QuotaUse{q.GetQuota(), q.Used, q.Limit})
	}
	return p
}

// GetProject returns what a project uses and may use.
func (c *Client) GetProject(ctx context.Context, project string) (*Project, error) {
	var wrong violations
	request := &pb.GetProjectRequest{Name: checkedName(&wrong, "name", "projects/", project)}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	response, err := unary(ctx, c, c.admin.GetProject, request)
	if err != nil {
		return nil, err
	}
	return projectOf(response.GetProject()), nil
}

// ListProjects yields the projects that the caller may see. An error is the last element.
func (c *Client) ListProjects(ctx context.Context) iter.Seq2[*Project, error] {
	return pages(func(token string) ([]*pb.Project, string, error) {
		response, err := unary(ctx, c, c.admin.ListProjects, &pb.ListProjectsRequest{PageToken: token})
		return response.GetProjects(), response.GetNextPageToken(), err
	}, projectOf)
}

// ServerStatus is the state of a server at one moment.
type ServerStatus struct {
	Version, Commit, InstructionSet string
	StartTime, StatusTime           time.Time // by the server's clock
	Health                          []ServiceHealth
	Metrics                         string // Prometheus' text format
	// Only in the full status.
	Flags    []ServerFlag
	LogLines []string // the latest, the oldest first
}

// ServiceHealth is what the health service reports of one service ("": the server), and why.
type ServiceHealth struct {
	Service string
	Serving bool
	Reason  string
}

// A ServerFlag is a flag of the server. Its value is never a secret.
type ServerFlag struct {
	Name, Value string
	Given       bool // otherwise Value is the default
}

// GetServerStatus returns the status of the server; full: with its flags and the latest lines of
// its log. On a server with authentication, operators only.
func (c *Client) GetServerStatus(ctx context.Context, full bool) (*ServerStatus, error) {
	request := &pb.GetServerStatusRequest{View: pb.ServerStatusView_SERVER_STATUS_VIEW_BASIC}
	if full {
		request.View = pb.ServerStatusView_SERVER_STATUS_VIEW_FULL
	}
	response, err := unary(ctx, c, c.admin.GetServerStatus, request)
	if err != nil {
		return nil, err
	}
	m := response.GetStatus()
	s := &ServerStatus{Version: m.GetVersion(), Commit: m.GetCommit(), InstructionSet: m.GetInstructionSet(),
		StartTime: m.GetStartTime().AsTime(), StatusTime: m.GetStatusTime().AsTime(), Metrics: m.GetMetrics(),
		LogLines: m.GetLogLines()}
	for _, h := range m.GetHealth() {
		s.Health = append(s.Health, ServiceHealth{h.GetService(), h.GetServing(), h.GetReason()})
	}
	for _, f := range m.GetFlags() {
		s.Flags = append(s.Flags, ServerFlag{f.GetName(), f.GetValue(), f.GetGiven()})
	}
	return s, nil
}
