// An http worker for Tidegate in Go, with the standard library alone: counts lines, words and characters of a text.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// textStats gives status and document of the answer: 2xx completes the job, 4xx ends it as failed.
func textStats(body []byte) (int, any) {
	if !utf8.Valid(body) {
		return 422, map[string]string{"code": "not-text", "message": "the body is not UTF-8"}
	}
	text := string(body)
	return 200, map[string]int{
		"lines":      strings.Count(text, "\n"),
		"words":      len(strings.Fields(text)),
		"characters": utf8.RuneCountInString(text),
	}
}

func work(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // The worker of Tidegate has given up: nobody is there to be answered.
	}
	status, document := textStats(body)
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(status)
	_ = json.NewEncoder(response).Encode(document)
	headers := request.Header
	fmt.Printf("job %s attempt %s: %d\n", headers.Get("Tidegate-Job-Id"), headers.Get("Tidegate-Attempt"), status)
}

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8103"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{Handler: http.HandlerFunc(work)}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-stop.Done()
	// Takes nothing new and lets what runs end: a connection cut now would end its job as failed.
	limit, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = server.Shutdown(limit)
}
