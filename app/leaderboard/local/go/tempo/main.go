// Program tempo keeps the platform's traces: Tempo as one process, for this machine.
//
// It has a main of its own because Tempo's, of the last commit that is a Go module to be had, panics at the first span
// when a Go of 1.21 or later built it: packages are initialised in another order since, so that gRPC's own codec
// replaces Tempo's, and cannot encode Tempo's messages. It takes those of Tempo's options that we use.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/drone/envsubst"
	"github.com/golang/protobuf/proto" //nolint:staticcheck // it takes messages of both generations
	"github.com/grafana/tempo/cmd/tempo/app"
	"github.com/grafana/tempo/pkg/util/log"
	"google.golang.org/grpc/encoding"
	"gopkg.in/yaml.v2"
)

const version = "2.1.0+1dc1bfe7085b"

// codec encodes what brings its own methods with them, as all messages do that gogo's compiler made, and the rest as
// gRPC does.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message any) ([]byte, error) {
	switch known := message.(type) {
	case interface{ Marshal() ([]byte, error) }:
		return known.Marshal()
	case proto.Message:
		return proto.Marshal(known)
	}
	return nil, fmt.Errorf("%T is no message", message)
}

func (codec) Unmarshal(data []byte, message any) error {
	switch known := message.(type) {
	case interface{ Unmarshal([]byte) error }:
		return known.Unmarshal(data)
	case proto.Message:
		return proto.Unmarshal(data, known)
	}
	return fmt.Errorf("%T is no message", message)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "tempo: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var file string
	var expand, verify, show bool
	config := app.Config{}
	flags := flag.NewFlagSet("tempo", flag.ExitOnError)
	flags.StringVar(&file, "config.file", "", "The configuration")
	flags.BoolVar(&expand, "config.expand-env", false, "Replace ${NAME:-default} in it")
	flags.BoolVar(&verify, "config.verify", false, "Only say whether it is one")
	flags.BoolVar(&show, "version", false, "Print the version")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	if show {
		fmt.Printf("tempo, version %s\n", version)
		return nil
	}
	if err := load(&config, file, expand); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	warnings := config.CheckConfig()
	for _, warning := range warnings {
		fmt.Fprintf(os.Stderr, "warning: %s %s\n", warning.Message, warning.Explain)
	}
	if verify {
		if len(warnings) > 0 {
			return errors.New("the configuration has warnings")
		}
		return nil
	}
	log.InitLogger(&config.Server)
	encoding.RegisterCodec(codec{})
	tempo, err := app.New(config)
	if err != nil {
		return err
	}
	return tempo.Run()
}

func load(config *app.Config, file string, expand bool) error {
	config.RegisterFlagsAndApplyDefaults("", flag.NewFlagSet("", flag.ContinueOnError))
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if expand {
		expanded, err := envsubst.EvalEnv(string(text))
		if err != nil {
			return err
		}
		text = []byte(expanded)
	}
	if err := yaml.UnmarshalStrict(text, config); err != nil {
		return err
	}
	// One process has nobody to share a ring with.
	config.Ingester.LifecyclerConfig.RingConfig.KVStore.Store = "inmemory"
	config.Ingester.LifecyclerConfig.RingConfig.ReplicationFactor = 1
	config.Ingester.LifecyclerConfig.Addr = "127.0.0.1"
	config.Generator.Ring.KVStore.Store = "inmemory"
	config.Generator.Ring.InstanceAddr = "127.0.0.1"
	return nil
}
