package dashboard

// Route is a row of the list of routes, for the tests that walk them all.
type Route struct {
	Pattern string
	Member  bool // in a workspace
	Fresh   bool // only for a while after signing in
}

// Routes is the list of routes.
func Routes() []Route {
	var all []Route
	for _, r := range routes() {
		all = append(all, Route{r.pattern, r.member, r.fresh})
	}
	return all
}
