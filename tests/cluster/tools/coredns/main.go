// CoreDNS with the four plugins that a cluster's own names need. The program of the project itself carries some fifty,
// with the clients of several clouds; leaving them out makes building it several times quicker.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	coremain.Run()
}
