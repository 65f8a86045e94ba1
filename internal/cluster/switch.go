//go:build !keystile_without_barrier

package cluster

// withoutBarrier is for a build that shows that the tests of the barrier can
// fail: see TestSoakFindsFaults.
const withoutBarrier = false
