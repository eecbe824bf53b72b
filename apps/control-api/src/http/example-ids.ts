// The ids in the examples of the API's schemas. An example names an object by its noun's id here, so that a reader sees
// which field means which object, and a test can put ids of its own in their place.
export const exampleIds = {
  tenant: '01890a5d-ac96-774b-bcce-b302099a8001',
  account: '01890a5d-ac96-774b-bcce-b302099a8002',
  plan: '01890a5d-ac96-774b-bcce-b302099a8003',
  subscription: '01890a5d-ac96-774b-bcce-b302099a8004',
  device: '01890a5d-ac96-774b-bcce-b302099a8005',
  node: '01890a5d-ac96-774b-bcce-b302099a8006',
  nodeGroup: '01890a5d-ac96-774b-bcce-b302099a8007',
  key: '01890a5d-ac96-774b-bcce-b302099a8008',
  invitation: '01890a5d-ac96-774b-bcce-b302099a8009',
  webhook: '01890a5d-ac96-774b-bcce-b302099a800a',
  session: '01890a5d-ac96-774b-bcce-b302099a800b',
  statement: '01890a5d-ac96-774b-bcce-b302099a800c',
  passkey: '01890a5d-ac96-774b-bcce-b302099a800d',
  identityProvider: '01890a5d-ac96-774b-bcce-b302099a800e',
  delivery: '01890a5d-ac96-774b-bcce-b302099a800f',
} as const;
