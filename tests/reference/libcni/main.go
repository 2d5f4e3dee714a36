// A runtime on libcni, the reference library: libcni VERB NETWORK CONTAINER NETNS, with NETCONFPATH, CNI_PATH,
// CAP_ARGS and CACHE from the environment. Prints the result of an ADD.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

func run(verb, network, container, netns string) error {
	list, err := libcni.LoadConfList(os.Getenv("NETCONFPATH"), network)
	if err != nil {
		return err
	}
	capabilities := map[string]interface{}{}
	if text := os.Getenv("CAP_ARGS"); text != "" {
		if err := json.Unmarshal([]byte(text), &capabilities); err != nil {
			return err
		}
	}
	attachment := &libcni.RuntimeConf{
		ContainerID: container, NetNS: netns, IfName: "eth0", CapabilityArgs: capabilities,
	}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), os.Getenv("CACHE"), nil)
	ctx := context.Background()
	switch verb {
	case "add":
		result, err := cni.AddNetworkList(ctx, list, attachment)
		if err == nil {
			err = result.Print()
		}
		return err
	case "check":
		return cni.CheckNetworkList(ctx, list, attachment)
	case "del":
		return cni.DelNetworkList(ctx, list, attachment)
	case "validate":
		capabilities, err := cni.ValidateNetworkList(ctx, list)
		if err == nil {
			fmt.Println(len(capabilities))
		}
		return err
	}
	return fmt.Errorf("%s: unknown verb", verb)
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
