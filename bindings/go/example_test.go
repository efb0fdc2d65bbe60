// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"syscall"
	"time"

	"xenmsg"
)

func ExampleConn_Call() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := xenmsg.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	reply, err := conn.Call(ctx, "db:kv", []byte("get colour"))
	var failure *xenmsg.Error
	switch {
	case err == nil:
		fmt.Printf("%s\n", reply.Data)
	case errors.Is(err, syscall.ENOENT):
		fmt.Println("nobody serves kv there")
	case errors.As(err, &failure) && failure.Fate == xenmsg.Done:
		fmt.Printf("the server says %d: %s\n", failure.Code, failure.Data)
	default:
		fmt.Println(err)
	}
}

func ExampleConn_Subscribe() {
	ctx := context.Background()
	conn, err := (&xenmsg.Dialer{Reconnect: true}).Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	news, err := conn.Subscribe(ctx, "2:news", nil)
	for err == nil {
		var m *xenmsg.Message
		var notice *xenmsg.Notice
		if m, notice, err = news.Next(ctx); m != nil {
			fmt.Printf("%s\n", m.Data)
		} else if notice != nil {
			fmt.Println(notice.Kind, notice.Count)
		}
	}
	log.Fatal(err)
}

func ExampleConn_Listen() {
	conn, err := xenmsg.Dial(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	listener, err := conn.Listen(context.Background(), "web", nil)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.FileServer(http.Dir("/srv/www"))))
}

func ExampleConn_ConnectFunc() {
	conn, err := xenmsg.Dial(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: conn.ConnectFunc("2:web")}}
	response, err := client.Get("http://web/index.html")
	fmt.Println(response, err)
}
