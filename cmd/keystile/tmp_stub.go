package main

type keysCmd struct{}

func (keysCmd) Run() error { return nil }

type verifyCmd struct{}

func (verifyCmd) Run() error { return nil }

type workspacesCmd struct{}

func (workspacesCmd) Run() error { return nil }

type backupCmd struct{}

func (backupCmd) Run() error { return nil }

type restoreCmd struct{}

func (restoreCmd) Run() error { return nil }

type completionCmd struct{}

func (completionCmd) Run() error { return nil }
