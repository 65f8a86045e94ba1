//go:build keystile_without_barrier

package cluster

const withoutBarrier = true
