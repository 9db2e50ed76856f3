"""Tests of trained networks as the papers make them: many crops, whole images at several scales, ensembles."""
