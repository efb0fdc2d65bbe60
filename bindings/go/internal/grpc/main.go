//go:build grpc

// SPDX-License-Identifier: LGPL-2.1-or-later

// Command grpc asks a gRPC server in domain 2 whether it is well, from domain 1: over streams. Debian has gRPC
// for GOPATH alone, so that tests/integration/test_go.py builds this as that wants it.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"xenmsg"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	one, err := (&xenmsg.Dialer{Socket: os.Getenv("XENMSG_TEST_1")}).Dial(ctx)
	check(err)
	two, err := (&xenmsg.Dialer{Socket: os.Getenv("XENMSG_TEST_2")}).Dial(ctx)
	check(err)
	listener, err := two.Listen(ctx, "grpc", nil)
	check(err)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	to := one.ConnectFunc("2:grpc")
	client, err := grpc.DialContext(ctx, "2:grpc", grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return to(ctx, "", "") }))
	check(err)
	answer, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	check(err)
	fmt.Println(answer.Status)
	client.Close()
	server.GracefulStop()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
