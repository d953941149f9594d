export default {
  roots: ['<rootDir>/src'],
  testMatch: ['**/*.spec.ts'],
  testEnvironment: '@happy-dom/jest-environment',
  transform: { '\\.ts$': ['ts-jest', { tsconfig: 'src/__tests__/tsconfig.json' }] }
};
